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


def test_csv_json_and_parquet_hold_the_same_prompts_as_jsonl(tmp_path: Path):
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
        ("p.jsonl", b"{a\n{b\n", "none of its 2 records is a prompt; p.jsonl:1"),
        ("p.jsonl", b'{"text": "x"}\n', "found: text"),
        ("p.txt", b"hello", "unknown kind of file"),
        ("p.parquet", b"PAR1 but not really", "not a readable Parquet file"),
        ("p.json", b'{"prompt": "x"}', "expected a list"),
    ],
)
def test_a_file_that_holds_no_prompt_is_refused_before_anything_starts(
    tmp_path: Path, name: str, content: bytes, words: str
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError, match=words):
        check_source(PromptSource(path=tmp_path / name))


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(RecordError, match="no such file"):
        check_source(PromptSource(path=tmp_path / "none.jsonl"))


def test_a_byte_order_mark_is_no_part_of_the_first_prompt(tmp_path: Path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "one"}\n')
    assert [p.text for p in read(path) if isinstance(p, Prompt)] == ["one"]


def test_counting_agrees_with_reading(tmp_path: Path):
    path = jsonl(tmp_path, '{"prompt": "one"}', "{broken", "", '{"prompt": "three"}')
    for limit in (None, 2):
        source = PromptSource(path=path, limit=limit)
        assert count_records(source) == len(list(read_prompts(source)))
