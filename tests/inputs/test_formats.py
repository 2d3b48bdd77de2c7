import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from rlaif.errors import RecordError
from rlaif.inputs import PromptSource, check_source, formats, json_values
from rlaif.inputs.files import find_files
from tests.inputs.reading import failures, read, texts

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(items=st.lists(JSON, max_size=8), indent=st.sampled_from([None, 2]), chunk=st.integers(1, 9))
def test_a_json_list_read_in_parts_of_any_size_is_what_json_reads_at_once(
    tmp_path_factory: Any, items: list[Any], indent: int | None, chunk: int
):
    path = tmp_path_factory.mktemp("json") / "p.json"
    path.write_text(json.dumps(items, indent=indent, ensure_ascii=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_values, "_CHUNK", chunk)
        found = [record for _, record in formats.read_records(find_files(str(path))[0])]
    assert found == items


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"prompt": "x"}', "invalid JSON after 1 records"),
        ('[{"prompt": "x"},]', "invalid JSON after 1 records"),
        ('[{"prompt": "x"} {"prompt": "y"}]', "comma or the end"),
        ('[{"prompt": "x"}] 7', "something follows"),
        ('{"prompt": "x"}', "expected a list"),
        ("7", "expected a list"),
    ],
)
def test_a_json_file_that_breaks_off_is_refused_before_the_first_prompt(
    tmp_path: Path, content: str, words: str
):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(RecordError, match=words):
        check_source(PromptSource(path=tmp_path / "p.json"))


def test_a_csv_record_that_is_broken_is_a_failure_at_its_line(tmp_path: Path):
    (tmp_path / "p.csv").write_text('prompt\none\n"two" too\nthree\n')
    items = read(tmp_path / "p.csv")
    assert texts(items) == ["one", "three"]
    assert failures(items) == [("p.csv:3", "bad-csv")]


def test_a_remote_csv_record_that_is_not_utf8_is_a_failure_and_the_rest_is_read():
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.pipe("/latin/p.csv", "prompt\none\ncaf\xe9\nthree\n".encode("latin-1"))
    system.pipe("/latin/p.jsonl", b'{"prompt": "caf\xe9"}\n{"prompt": "four"}\n')
    try:
        items = read("memory://latin/*")
    finally:
        system.rm("/latin", recursive=True)
    assert texts(items) == ["one", "three", "four"]
    assert failures(items) == [("p.csv:3", "bad-csv"), ("p.jsonl:1", "bad-json")]


def test_a_csv_field_may_be_as_long_as_a_prompt(tmp_path: Path):
    long = "word " * 100_000
    (tmp_path / "p.csv").write_text(f'prompt\none\n"{long}"\nthree\n')
    assert texts(read(tmp_path / "p.csv")) == ["one", long, "three"]


@pytest.mark.parametrize("form", ["stream", "file"])
def test_arrow_files_of_both_forms_are_read(tmp_path: Path, form: str):
    table = pa.table({"prompt": ["one", "two"], "other": [[1], [2]]})
    opener = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with opener(str(tmp_path / "p.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert texts(read(tmp_path / "p.arrow")) == ["one", "two"]


def test_only_the_requested_columns_are_read_from_parquet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    table = pa.table({"q": [{"text": "one", "n": 1}], "unused": ["x"]})
    pq.write_table(table, tmp_path / "p.parquet")
    file = find_files(str(tmp_path / "p.parquet"))[0]
    assert list(formats.read_records(file, ("q.text",))) == [(1, {"q": {"text": "one", "n": 1}})]
    # A column that is missing is told with those there are.
    with pytest.raises(RecordError, match="found: q, unused"):
        read(tmp_path / "p.parquet", column="prompt")


def test_a_parquet_file_damaged_inside_stops_with_its_name_and_no_traceback_type(tmp_path: Path):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"prompt": [f"question {n}" for n in range(5000)]}), path)
    data = bytearray(path.read_bytes())
    data[100:4000] = b"\x00" * 3900
    path.write_bytes(data)
    with pytest.raises(RecordError, match=r"p\.parquet: cannot be read"):
        read(path)


def test_text_with_lone_surrogates_is_a_failure_in_json_and_an_error_in_parquet(tmp_path: Path):
    half = r'[{"prompt": "\ud83d"}, {"prompt": "\ud83d\ude00"}]'
    (tmp_path / "p.json").write_text(half)
    items = read(tmp_path / "p.json")
    assert texts(items) == ["\U0001f600"]
    assert failures(items) == [("p.json#1", "bad-json")]
    bad = pa.array([b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"prompt": bad}), tmp_path / "p.parquet")
    with pytest.raises(RecordError, match=r"p\.parquet: .*not UTF-8"):
        read(tmp_path / "p.parquet")


def write_table(path: Path, form: str, count: int) -> Path:
    table = pa.table({"prompt": [f"{path.name} {form} {n}" for n in range(count)]})
    if form == "parquet":
        pq.write_table(table, path)
        return path
    opener = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with opener(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return path


@pytest.mark.parametrize("form", ["parquet", "stream", "file"])
@pytest.mark.parametrize("left", [0, 5, 0.5, 0.95])
def test_a_table_that_is_cut_off_is_refused_before_the_first_prompt_of_others(
    tmp_path: Path, form: str, left: float
):
    ending = "parquet" if form == "parquet" else "arrow"
    for name in "ab":
        write_table(tmp_path / f"{name}.{ending}", form, 1000)
    source = PromptSource(path=tmp_path)
    check_source(source)
    broken = tmp_path / f"b.{ending}"
    data = broken.read_bytes()
    broken.write_bytes(data[: int(left if left > 1 else left * len(data))])
    with pytest.raises(RecordError, match=rf"b\.{ending}: "):
        check_source(source)


def test_a_table_without_rows_among_others_is_accepted(tmp_path: Path):
    write_table(tmp_path / "a.parquet", "parquet", 0)
    write_table(tmp_path / "b.arrow", "stream", 0)
    write_table(tmp_path / "c.parquet", "parquet", 2)
    assert len(texts(read(tmp_path))) == 2
