import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaif.errors import RecordError
from rlaif.inputs import PromptSource, check_source, columns, count_records
from rlaif.records import Prompt
from tests.inputs.reading import failures, read, texts, write_jsonl

TURNS = [{"role": "user", "content": "one"}]


@pytest.mark.parametrize(
    ("column", "value"),
    [("messages", TURNS), ("instruction", "one"), ("question", "one"), ("prompt", "one")],
)
@pytest.mark.parametrize("form", ["jsonl", "parquet", "list"])
def test_the_only_candidate_is_the_column_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, column: str, value: Any, form: str
):
    record = {"other": "x", column: value}
    source: dict[str, Any] = {"path": tmp_path / f"p.{form}"}
    columns._log_once.cache_clear()
    if form == "jsonl":
        write_jsonl(tmp_path / "p.jsonl", record)
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist([record]), tmp_path / "p.parquet")
    else:
        source = {"items": (record,)}
    with caplog.at_level(logging.WARNING):
        assert texts(read(**source)) == ["one"]
        read(**source)
    said = [one for one in caplog.messages if repr(column) in one]
    assert len(said) == (0 if column == "prompt" else 1)


def test_two_candidates_are_named_with_the_option_that_chooses(tmp_path: Path):
    path = write_jsonl(tmp_path / "p.jsonl", {"prompt": "one", "messages": TURNS})
    with pytest.raises(RecordError, match="messages, prompt") as caught:
        check_source(PromptSource(path=path))
    assert "prompts.column" in caught.value.hint
    assert texts(read(path, column="prompt")) == ["one"]


def test_a_candidate_that_is_empty_everywhere_is_ignored(tmp_path: Path):
    records = [{"prompt": "one", "messages": None}, {"prompt": "two", "messages": None}]
    assert texts(read(write_jsonl(tmp_path / "p.jsonl", *records))) == ["one", "two"]


def test_without_a_candidate_the_error_lists_the_columns(tmp_path: Path):
    path = write_jsonl(tmp_path / "p.jsonl", {"text": "one"})
    with pytest.raises(RecordError, match="found: text") as caught:
        check_source(PromptSource(path=path))
    assert "set prompts.column" in caught.value.hint


def test_a_list_may_contain_texts_conversations_and_records():
    items = ("one", TURNS, {"prompt": "three", "id": 2**70}, 7, None, {"prompt": "half \ud83d"})
    found = read(items=items)
    assert texts(found) == ["one", "three"]
    assert failures(found) == [
        ("prompts#2", "duplicate-id"),
        ("prompts#4", "bad-record"),
        ("prompts#5", "bad-record"),
        ("prompts#6", "bad-prompt"),
    ]
    assert count_records(PromptSource(items=items)) == len(found) == 6
    assert count_records(PromptSource(items=items, limit=2)) == 2
    (last,) = (item for item in read(items=items[2:3], id_column="id") if isinstance(item, Prompt))
    assert last.id == str(2**70)
