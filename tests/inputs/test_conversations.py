import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.config.prompts import DedupConfig
from rlaif.records import Prompt
from tests.inputs.reading import failures, read, texts, write_jsonl
from tests.records.test_tool_use import ASKED, CALL, WEATHER


def prompts(items: list[Any]) -> list[Prompt]:
    assert failures(items) == []
    return [item for item in items if isinstance(item, Prompt)]


def test_a_conversation_with_tools_is_the_same_from_every_format(tmp_path: Path):
    expected = Prompt.build(ASKED, tools=[WEATHER])
    record = {"prompt": ASKED, "defined": [WEATHER]}
    write_jsonl(tmp_path / "p.jsonl", record)
    (tmp_path / "p.json").write_text(json.dumps([record]))
    # Where a table cannot hold values of any shape, JSON text stands for them.
    messages = [
        {key: json.dumps(value) if key == "tool_calls" else value for key, value in turn.items()}
        for turn in ASKED
    ]
    table = pa.Table.from_pylist([{"prompt": messages, "defined": json.dumps([WEATHER])}])
    pq.write_table(table, tmp_path / "p.parquet")
    for name in ("p.jsonl", "p.json", "p.parquet"):
        (found,) = prompts(read(tmp_path / name, tools_column="defined"))
        assert found == expected, name


def test_sharegpt_calls_and_observations_are_calls_and_results(tmp_path: Path):
    turns = [
        {"from": "human", "value": "Is it raining?"},
        {"from": "function_call", "value": json.dumps(CALL["function"])},
        {"from": "observation", "value": "yes"},
    ]
    (found,) = prompts(read(write_jsonl(tmp_path / "p.jsonl", {"prompt": turns})))
    assert [turn["role"] for turn in found.messages] == ["user", "assistant", "tool"]
    assert found.messages[1]["tool_calls"][0]["function"] == CALL["function"]


def test_a_call_that_cannot_be_represented_is_a_failure_with_its_line(tmp_path: Path):
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    custom = {"role": "assistant", "tool_calls": [{"type": "custom", "custom": {"name": "f"}}]}
    path = write_jsonl(
        tmp_path / "p.jsonl",
        "one",
        {"prompt": [image]},
        {"prompt": [ASKED[0], custom, ASKED[0]]},
        {"prompt": ASKED, "tools": "not tools"},
    )
    items = read(path, tools_column="tools")
    assert texts(items) == ["one"]
    assert failures(items) == [(f"p.jsonl:{line}", "bad-prompt") for line in (2, 3, 4)]


def test_an_answer_that_is_left_out_may_follow_the_result_of_a_tool(tmp_path: Path):
    told = [*ASKED, {"role": "assistant", "content": "Yes, it is."}]
    (found,) = prompts(
        read(write_jsonl(tmp_path / "p.jsonl", {"prompt": told}), drop_last_reply=True)
    )
    assert found == Prompt.build(ASKED)


def test_conversations_that_differ_in_a_call_alone_are_not_duplicates(tmp_path: Path):
    other = {**CALL, "function": {"name": "weather", "arguments": "{}"}}
    changed = [ASKED[0], {**ASKED[1], "tool_calls": [other]}, ASKED[2]]
    path = write_jsonl(tmp_path / "p.jsonl", {"prompt": ASKED}, {"prompt": changed})
    assert len(prompts(read(path, dedup=DedupConfig()))) == 2
