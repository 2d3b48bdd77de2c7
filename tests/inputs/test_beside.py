"""Columns beside the prompts: joined, a failure, or left out on purpose, but never in silence."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaif.errors import RecordError
from rlaif.inputs import PromptSource, check_source
from tests.inputs.reading import failures, read, texts, write_jsonl

TURNS = [{"role": "user", "content": "one"}]


def write(folder: Path, form: str, *records: dict[str, Any]) -> Path:
    path = folder / f"p.{form}"
    if form == "jsonl":
        return write_jsonl(path, *records)
    if form == "json":
        path.write_text(json.dumps(records))
    else:
        pq.write_table(pa.Table.from_pylist(list(records)), path)
    return path


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("name", ["input", "context"])
def test_what_follows_a_guessed_instruction_is_part_of_the_prompt(
    tmp_path: Path, form: str, name: str
):
    path = write(
        tmp_path,
        form,
        {"instruction": "Add.", name: "1 and 2", "output": "3"},
        {"instruction": "Wait.", name: "", "output": "."},
    )
    assert texts(read(path)) == ["Add.\n\n1 and 2", "Wait."]
    assert texts(read(path, column="instruction")) == ["Add.", "Wait."]
    assert texts(read(path, ignore_columns=(name,))) == ["Add.", "Wait."]


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet", "list"])
@pytest.mark.parametrize(
    ("column", "beside", "value"),
    [
        ("prompt", "images", ["a.png"]),
        ("prompt", "image", {"path": "a.png"}),
        ("messages", "audio", "a.wav"),
        ("question", "files", ["a.pdf"]),
        ("prompt", "system", "Be brief."),
        ("question", "context", "A text."),
        ("prompt", "input", "1 and 2"),
        ("instruction", "history", [["Hello", "Hello!"]]),
        ("messages", "tools", "[{}]"),
    ],
)
def test_a_record_with_more_than_its_prompt_is_a_failure_that_says_how_to_leave_it_out(
    tmp_path: Path, form: str, column: str, beside: str, value: Any
):
    one, two = (TURNS, [{"role": "user", "content": "two"}]) if column == "messages" else "12"
    records = ({column: one, beside: value}, {column: two, beside: None})
    source: dict[str, Any] = {"items": records}
    if form != "list":
        source = {"path": write(tmp_path, form, *records)}
    items = read(**source)
    assert [kind for _, kind in failures(items)] == ["unread-column"]
    assert f"prompts.ignore_columns: [{beside}]" in items[0].message  # type: ignore[union-attr]
    assert len(texts(items)) == 1
    assert len(texts(read(**source, ignore_columns=(beside,)))) == 2


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_column_that_is_set_stands_alone_except_for_media(tmp_path: Path, form: str):
    records = [{"text": "one", "system": "Be brief.", "images": []}]
    assert texts(read(write(tmp_path, form, *records), column="text")) == ["one"]
    path = write(tmp_path, form, records[0] | {"images": ["a.png"]})
    with pytest.raises(RecordError, match="'images' beside 'text'") as caught:
        check_source(PromptSource(path=path, column="text"))
    assert not caught.value.hint  # the message says what to set


def test_a_column_with_another_use_is_not_missed(tmp_path: Path):
    record = {"prompt": "one", "system": "maths", "context": 7}
    items = read(write(tmp_path, "jsonl", record), tags_column="system", id_column="context")
    assert texts(items) == ["one"]
