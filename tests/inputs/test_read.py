from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaif.errors import RecordError
from rlaif.inputs import PromptSource, check_source, count_records, read_prompts
from rlaif.records import Failure, Prompt


def read(path: Path, **columns: object) -> list[Prompt | Failure]:
    return list(read_prompts(PromptSource(path=path, **columns)))  # type: ignore[arg-type]


def jsonl(folder: Path, *lines: str) -> Path:
    path = folder / "p.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_broken_lines_are_failures_with_their_line_numbers_and_the_rest_is_read(tmp_path: Path):
    path = jsonl(tmp_path, '{"prompt": "one"}', "{broken", "", '{"x": 1}', "7", '{"prompt": ""}')
    items = read(path)
    assert isinstance(items[0], Prompt)
    failures = [(f.record_id, f.kind) for f in items[1:] if isinstance(f, Failure)]
    assert failures == [
        ("p.jsonl:2", "bad-json"),
        ("p.jsonl:4", "missing-column"),
        ("p.jsonl:5", "bad-record"),
        ("p.jsonl:6", "bad-prompt"),
    ]


def test_an_id_given_twice_is_a_failure_the_second_time(tmp_path: Path):
    path = jsonl(tmp_path, '{"id": "a", "prompt": "x"}', '{"id": "a", "prompt": "y"}')
    first, second = read(path, id_column="id")
    assert isinstance(first, Prompt)
    assert isinstance(second, Failure)
    assert second.kind == "duplicate-id"


def test_tags_come_from_a_list_or_from_text_with_commas(tmp_path: Path):
    path = jsonl(tmp_path, '{"prompt": "x", "t": ["a", "b"]}', '{"prompt": "y", "t": "a, c"}')
    tags = [p.tags for p in read(path, tags_column="t", tags=("all",)) if isinstance(p, Prompt)]
    assert tags == [("all", "a", "b"), ("all", "a", "c")]


def test_csv_json_and_parquet_give_the_same_prompts_as_jsonl(tmp_path: Path):
    (tmp_path / "p.csv").write_text('prompt\none\n"two, with\na line"\n')
    (tmp_path / "p.json").write_text('[{"prompt": "one"}, {"prompt": "two, with\\na line"}]')
    table = pa.table({"prompt": ["one", "two, with\na line"]})
    pq.write_table(table, tmp_path / "p.parquet")
    expected = {Prompt.build("one").id, Prompt.build("two, with\na line").id}
    for name in ("p.csv", "p.json", "p.parquet"):
        found = {p.id for p in read(tmp_path / name) if isinstance(p, Prompt)}
        assert found == expected, name


def test_the_limit_counts_broken_records_too(tmp_path: Path):
    path = jsonl(tmp_path, '{"prompt": "one"}', "{broken", '{"prompt": "three"}')
    assert len(read(path, limit=2)) == 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.jsonl", b"", "the file is empty"),
        ("p.jsonl", b"\n\n", "the file is empty"),
        ("p.jsonl", '{"prompt": "caf\xe9"}'.encode("latin-1"), "not UTF-8"),
        ("p.jsonl", '{"prompt": "x"}'.encode("utf-16"), "not UTF-8"),
        ("p.jsonl", b"{a\n{b\n", "none of its 2 records is a valid prompt; p.jsonl:1"),
        ("p.jsonl", b'{"text": "x"}\n', "found: text"),
        ("p.txt", b"hello", "unknown file format"),
        ("p.parquet", b"PAR1 but not really", "not a readable Parquet file"),
        ("p.json", b'{"prompt": "x"}', "expected a list"),
    ],
)
def test_a_file_without_prompts_is_refused_before_anything_starts(
    tmp_path: Path, name: str, content: bytes, words: str
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError, match=words):
        check_source(PromptSource(path=tmp_path / name))


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(RecordError, match="no such file"):
        check_source(PromptSource(path=tmp_path / "none.jsonl"))


def test_a_byte_order_mark_is_not_part_of_the_first_prompt(tmp_path: Path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "one"}\n')
    assert [p.text for p in read(path) if isinstance(p, Prompt)] == ["one"]


def test_counting_agrees_with_reading(tmp_path: Path):
    path = jsonl(tmp_path, '{"prompt": "one"}', "{broken", "", '{"prompt": "three"}')
    for limit in (None, 2):
        source = PromptSource(path=path, limit=limit)
        assert count_records(source) == len(list(read_prompts(source)))


def ids(items: list[Prompt | Failure]) -> list[str]:
    return [item.id for item in items if isinstance(item, Prompt)]


def kinds(items: list[Prompt | Failure]) -> list[tuple[str, str]]:
    return [(item.record_id, item.kind) for item in items if isinstance(item, Failure)]


@pytest.mark.parametrize(
    "written",
    [
        *map(str, (2**70 + 1, -(2**63) - 1, 2**64, 2**53 + 1, 0, -7)),
        *("1.0", "1.50", "1e3", "0.12345678901234567890", "12345678.1234567891"),
    ],
)
@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_an_id_in_json_is_kept_as_it_is_written(tmp_path: Path, form: str, written: str):
    record = f'{{"id": {written}, "prompt": "x", "other": [1.5, "a"]}}'
    path = tmp_path / f"p.{form}"
    path.write_text(record if form == "jsonl" else f"[{record}]")
    assert ids(read(path, id_column="id")) == [written]


def test_integers_beyond_64_bits_are_different_ids(tmp_path: Path):
    path = jsonl(tmp_path, *(f'{{"id": {2**70 + i}, "prompt": "p {i}"}}' for i in range(4)))
    assert ids(read(path, id_column="id")) == [str(2**70 + i) for i in range(4)]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([2**63 - 1, -(2**63)], pa.int64()), [str(2**63 - 1), str(-(2**63))]),
        (pa.array([2**64 - 1, 0], pa.uint64()), [str(2**64 - 1), "0"]),
        (pa.array([3.0, 2.0**60], pa.float64()), ["3", str(2**60)]),
        (pa.array([1.5, -0.25], pa.float64()), ["1.5", "-0.25"]),
        (pa.array([Decimal("3.00"), Decimal("3.01")], pa.decimal128(5, 2)), ["3.00", "3.01"]),
        (pa.array(["7.0", "7"], pa.string()), ["7.0", "7"]),
        (pa.array([b"a", b"\xc3\xa4"], pa.binary()), ["a", "ä"]),
    ],
)
def test_ids_of_any_type_in_a_table_are_different(
    tmp_path: Path, column: pa.Array, expected: list[str]
):
    pq.write_table(pa.table({"id": column, "prompt": ["x", "y"]}), tmp_path / "p.parquet")
    assert ids(read(tmp_path / "p.parquet", id_column="id")) == expected


def test_a_record_whose_id_is_missing_is_a_failure_in_every_format(tmp_path: Path):
    path = jsonl(
        tmp_path,
        '{"id": NaN, "prompt": "a"}',
        '{"id": null, "prompt": "b"}',
        '{"id": "", "prompt": "c"}',
        '{"prompt": "d"}',
        '{"id": 5, "prompt": "e"}',
    )
    items = read(path, id_column="id")
    assert ids(items) == ["5"]
    assert kinds(items) == [(f"p.jsonl:{line}", "missing-id") for line in (1, 2, 3, 4)]
    table = pa.table({"id": [1.0, float("nan"), None], "prompt": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "p.parquet")
    items = read(tmp_path / "p.parquet", id_column="id")
    assert ids(items) == ["1"]
    assert kinds(items) == [("p.parquet#2", "missing-id"), ("p.parquet#3", "missing-id")]


@pytest.mark.parametrize("written", ["true", "[1]", '{"a": 1}'])
def test_an_id_that_is_neither_text_nor_a_number_is_a_failure(tmp_path: Path, written: str):
    path = jsonl(tmp_path, f'{{"id": {written}, "prompt": "x"}}', '{"id": 1, "prompt": "y"}')
    items = read(path, id_column="id")
    assert kinds(items) == [("p.jsonl:1", "bad-id")]


def test_missing_tags_are_an_empty_list_of_tags(tmp_path: Path):
    path = jsonl(
        tmp_path,
        '{"prompt": "a", "t": NaN}',
        '{"prompt": "b", "t": ["x", null, NaN, 2]}',
        '{"prompt": "c", "t": [{"name": "x"}]}',
    )
    items = read(path, tags_column="t")
    assert [item.tags for item in items if isinstance(item, Prompt)] == [(), ("x", "2")]
    assert kinds(items) == [("p.jsonl:3", "bad-tags")]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_nan_in_an_unused_column_does_not_make_a_record_fail(tmp_path: Path, value: str):
    path = jsonl(tmp_path, f'{{"prompt": "one", "score": {value}}}')
    assert [p.text for p in read(path) if isinstance(p, Prompt)] == ["one"]


def test_a_prompt_that_is_nan_is_missing(tmp_path: Path):
    items = read(jsonl(tmp_path, '{"prompt": NaN}', '{"prompt": "one"}'))
    assert kinds(items) == [("p.jsonl:1", "missing-column")]


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": "a", "prompt": "b"}',
        '{"prompt": [{"role": "user", "content": "a", "content": "b"}]}',
        r'{"prompt": "half \ud83d"}',
        r'{"prompt": NaN, "x": "half \ud83d"}',
        '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"prompt": "a"} {"prompt": "b"}',
        '{"prompt": ' + "9" * 5000 + "}",
    ],
)
def test_a_line_of_invalid_json_is_a_failure_with_its_line(tmp_path: Path, line: str):
    items = read(jsonl(tmp_path, '{"prompt": "one"}', line, '{"prompt": "three"}'))
    assert [p.text for p in items if isinstance(p, Prompt)] == ["one", "three"]
    assert kinds(items) == [("p.jsonl:2", "bad-json")]


def test_text_with_a_nul_in_it_is_carried_whole(tmp_path: Path):
    path = jsonl(tmp_path, r'{"prompt": "a\u0000b"}')
    (tmp_path / "p.csv").write_bytes(b"prompt\na\x00b\n")
    for each in (path, tmp_path / "p.csv"):
        assert [p.text for p in read(each) if isinstance(p, Prompt)] == ["a\x00b"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("1,How do I sort a list, then reverse it", "3 cells for 2 columns"),
        ("1,a,b,c,d", "5 cells for 2 columns"),
        ("1", "1 cells for 2 columns"),
        ('1,"a" b', "expected after"),
    ],
)
def test_a_csv_row_without_one_cell_for_each_column_is_a_failure(
    tmp_path: Path, row: str, words: str
):
    (tmp_path / "p.csv").write_text(f'\ufeffid,prompt\n0,one\n{row}\n2,"two\nlines"\n\n3,three\n')
    items = read(tmp_path / "p.csv", id_column="id")
    assert ids(items) == ["0", "2", "3"]
    (failure,) = (item for item in items if isinstance(item, Failure))
    assert (failure.record_id, failure.kind) == ("p.csv:3", "bad-csv")
    assert words in failure.message


def test_an_unclosed_csv_quote_is_reported_with_its_first_and_last_line(
    tmp_path: Path,
):
    (tmp_path / "p.csv").write_text('id,prompt\n1,one\n2,"two\n3,three\n4,four\n')
    items = read(tmp_path / "p.csv")
    assert [p.text for p in items if isinstance(p, Prompt)] == ["one"]
    (failure,) = (item for item in items if isinstance(item, Failure))
    assert failure.record_id == "p.csv:3"
    assert failure.message.endswith("it swallows lines 3 to 5")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("prompt,prompt\na,b\n", "p.csv:1: 2 columns are named 'prompt'"),
        ("id,prompt,id\n1,a,2\n", "2 columns are named 'id'"),
        (",\na,b\n", "the header names no columns"),
        ('"prompt\na\nb\n', "p.csv:1: the header cannot be read"),
    ],
)
def test_an_invalid_csv_header_is_refused(tmp_path: Path, content: str, words: str):
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(RecordError, match=words):
        check_source(PromptSource(path=tmp_path / "p.csv", id_column="id"))


def test_unused_columns_may_have_the_same_name(tmp_path: Path):
    (tmp_path / "p.csv").write_text("x,prompt,x\n1,a,2\n")
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["x", "prompt", "x"])
    pq.write_table(table, tmp_path / "p.parquet")
    for name in ("p.csv", "p.parquet"):
        assert [p.text for p in read(tmp_path / name) if isinstance(p, Prompt)] == ["a"]


def test_a_table_with_two_columns_of_the_same_name_is_refused(tmp_path: Path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["prompt", "prompt"])
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(RecordError, match=r"p\.parquet: 2 columns are named 'prompt'"):
        read(tmp_path / "p.parquet")


def test_a_row_that_python_cannot_represent_is_a_failure_and_the_others_are_read(tmp_path: Path):
    bad = pa.array([b"one", b"caf\xe9", b"three"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"prompt": bad}), tmp_path / "p.parquet")
    items = read(tmp_path / "p.parquet")
    assert [p.text for p in items if isinstance(p, Prompt)] == ["one", "three"]
    assert kinds(items) == [("p.parquet#2", "bad-value")]
