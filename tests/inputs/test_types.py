"""Values of unusual types: read as what they mean, or a failure with the place."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaif.errors import RecordError
from rlaif.inputs import PromptSource, check_source, count_records
from rlaif.records import Prompt
from tests.inputs.reading import failures, read, texts


def table(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def ids(items: list[Any]) -> list[str]:
    return [item.id for item in items if isinstance(item, Prompt)]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(3)])
def test_bytes_are_text_if_they_are_utf8_else_a_failure(tmp_path: Path, kind: pa.DataType):
    path = table(tmp_path / "p.parquet", prompt=pa.array([b"one", b"\xff\xfe!"], kind))
    items = read(path)
    assert texts(items) == ["one"]
    assert failures(items) == [("p.parquet#2", "bad-prompt")]
    assert "not UTF-8" in items[1].message  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["one", "two"], pa.large_string()),
        pa.array(["one", "two"], pa.string_view()),
        pa.array([b"one", b"two"], pa.binary_view()),
        pa.array(["one", "two"]).dictionary_encode(),
        pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array(["one", "two"])),
    ],
    ids=lambda array: str(array.type)[:20],
)
def test_every_encoding_of_text_in_arrow_is_text(tmp_path: Path, array: pa.Array):
    data = pa.table({"prompt": array})
    with pa.ipc.new_file(str(tmp_path / "p.arrow"), data.schema) as file:
        file.write_table(data)
    assert texts(read(tmp_path / "p.arrow")) == ["one", "two"]


def test_a_map_is_a_mapping_and_one_with_a_key_twice_a_failure(tmp_path: Path):
    turn = pa.list_(pa.map_(pa.string(), pa.string()))
    turns = [
        [[("role", "user"), ("content", "one")]],
        [[("role", "user"), ("role", "user"), ("content", "two")]],
    ]
    items = read(table(tmp_path / "p.parquet", messages=pa.array(turns, turn)))
    assert texts(items) == ["one"]
    assert failures(items) == [("p.parquet#2", "bad-value")]


def test_null_fields_of_a_table_enter_no_call_and_no_definition(tmp_path: Path):
    calls = [
        {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}},
        {"type": "function", "function": {"name": "g", "arguments": {"y": "s"}}},
    ]
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "2"},
    ]
    tools = [
        {"name": "f", "parameters": {"properties": {"x": {"type": "integer"}}}},
        {"name": "g", "parameters": {"properties": {"y": {"type": "string"}}}},
    ]
    record = {"messages": turns, "tools": [{"type": "function", "function": t} for t in tools]}
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "p.parquet")
    (tmp_path / "p.jsonl").write_text(json.dumps(record))
    whole, flat = (
        read(tmp_path / f"p.{form}", tools_column="tools")[0] for form in ("jsonl", "parquet")
    )
    assert isinstance(whole, Prompt)
    assert isinstance(flat, Prompt)
    assert flat.messages == whole.messages


@pytest.mark.parametrize("form", ["jsonl", "json", "list"])
def test_zero_is_one_id_and_infinity_none(tmp_path: Path, form: str):
    numbers = ["-0.0", "0", "Infinity", "-Infinity", "1e999", "7"]
    lines = [f'{{"prompt": "p{at}", "id": {number}}}' for at, number in enumerate(numbers)]
    path = tmp_path / f"p.{form}"
    path.write_text("\n".join(lines) if form == "jsonl" else f"[{','.join(lines)}]")
    source: dict[str, Any] = {"path": path}
    if form == "list":
        source = {"items": tuple(json.loads(path.read_text()))}
    items = read(**source, id_column="id")
    assert ids(items) == ["0", "7"]
    assert [kind for _, kind in failures(items)] == ["duplicate-id", *["bad-id"] * 3]


def test_zero_and_infinity_of_a_table_are_ids_by_the_same_rule(tmp_path: Path):
    path = table(tmp_path / "p.parquet", prompt=list("abc"), id=[-0.0, 0.0, float("inf")])
    items = read(path, id_column="id")
    assert ids(items) == ["0"]
    assert failures(items) == [("p.parquet#2", "duplicate-id"), ("p.parquet#3", "bad-id")]
    zeros = ({"prompt": "a", "id": Decimal("-0.00")}, {"prompt": "b", "id": Decimal("Infinity")})
    assert [getattr(item, "kind", "row") for item in read(items=zeros, id_column="id")] == [
        "row",
        "bad-id",
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("last", [True, False])
def test_lines_of_jsonl_may_end_as_on_any_system(tmp_path: Path, end: bytes, last: bool):
    lines = [b'{"prompt": "one"}', b"", b"broken", b'{"prompt": "a\\rb"}']
    (tmp_path / "p.jsonl").write_bytes(end.join(lines) + end * last)
    items = read(tmp_path / "p.jsonl")
    assert texts(items) == ["one", "a\rb"]
    assert failures(items) == [("p.jsonl:3", "bad-json")]
    assert count_records(PromptSource(path=tmp_path / "p.jsonl")) == 3


def test_tsv_is_csv_with_tabs(tmp_path: Path):
    (tmp_path / "p.tsv").write_text('prompt\tid\nSort, then stop\t7\n"a\ttab"\t8\ntoo few\n')
    items = read(tmp_path / "p.tsv", id_column="id")
    assert texts(items) == ["Sort, then stop", "a\ttab"]
    assert failures(items) == [("p.tsv:4", "bad-csv")]


@pytest.mark.parametrize("codec", ["gzip", "zstd", "bz2"])
def test_a_packed_parquet_file_is_refused_with_the_way_out(tmp_path: Path, codec: str):
    plain = table(tmp_path / "plain", prompt=["one"])
    packed = tmp_path / f"p.parquet.{ {'gzip': 'gz', 'zstd': 'zst'}.get(codec, codec) }"
    with pa.CompressedOutputStream(str(packed), codec) as file:
        file.write(plain.read_bytes())
    with pytest.raises(RecordError, match="not a readable Parquet file") as caught:
        check_source(PromptSource(path=packed))
    assert "unpack it first" in caught.value.hint
