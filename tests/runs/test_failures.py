import pytest

from rlaif.errors import RunError
from rlaif.records import Failure
from rlaif.runs import write_shard
from rlaif.runs.failures import (
    append_failures,
    read_failures,
    repair_failures,
    standing_failures,
)
from tests.runs.made import make_row


def make_failure(record_id: str, kind: str = "http-500") -> Failure:
    return Failure("sample", record_id, kind, "no answer", attempts=3)


def test_failures_survive_the_disk(tmp_path):
    path = tmp_path / "failures.jsonl"
    append_failures(path, [make_failure("p1")])
    append_failures(path, [make_failure("p2")])
    assert list(read_failures(path).values()) == [make_failure("p1"), make_failure("p2")]


def test_no_file_means_no_failures(tmp_path):
    assert read_failures(tmp_path / "failures.jsonl") == {}
    assert not repair_failures(tmp_path / "failures.jsonl")
    append_failures(tmp_path / "failures.jsonl", [])
    assert not (tmp_path / "failures.jsonl").exists()


def test_the_last_record_about_a_prompt_counts(tmp_path):
    path = tmp_path / "failures.jsonl"
    append_failures(path, [make_failure("p1", "timeout"), make_failure("p1", "bad-json")])
    assert read_failures(path) == {"p1": make_failure("p1", "bad-json")}


def test_a_torn_last_line_is_ignored_and_repaired(tmp_path):
    path = tmp_path / "failures.jsonl"
    append_failures(path, [make_failure("p1"), make_failure("p2")])
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines()[1]) + 1):
        path.write_bytes(whole[:-cut])
        assert list(read_failures(path)) == ["p1"]
        assert repair_failures(path)
        append_failures(path, [make_failure("p3")])
        assert list(read_failures(path)) == ["p1", "p3"]
    assert not repair_failures(path)


@pytest.mark.parametrize("line", [b"nonsense\n", b"{}\n", b"[1]\n", b"\n"])
def test_damage_before_the_last_line_names_the_line(tmp_path, line):
    path = tmp_path / "failures.jsonl"
    append_failures(path, [make_failure("p1")])
    path.write_bytes(path.read_bytes() + line + path.read_bytes())
    with pytest.raises(RunError, match=r"failures\.jsonl:2: not a failure record"):
        read_failures(path)


def test_a_row_wins_over_its_failure(tmp_path):
    path = tmp_path / "failures.jsonl"
    append_failures(path, [make_failure("p1"), make_failure("p2")])
    write_shard(tmp_path, [make_row(1)], run="demo@1")
    assert list(standing_failures(path, tmp_path)) == ["p2"]


def test_a_fixed_record_is_not_a_failure_until_it_breaks_again(tmp_path):
    path = tmp_path / "failures.jsonl"
    append_failures(path, [make_failure("p1"), make_failure("p2")])
    append_failures(path, [make_failure("p3")], ["p1", "never failed"])
    assert list(read_failures(path)) == ["p2", "p3"]
    append_failures(path, [make_failure("p1", "bad-json")])
    assert read_failures(path)["p1"].kind == "bad-json"
    path.write_bytes(path.read_bytes() + b'{"mended": []}\n')
    with pytest.raises(RunError, match=r"failures\.jsonl:7: not a failure record"):
        read_failures(path)


def test_failures_that_an_earlier_version_took_back_stay_taken_back(tmp_path):
    path = tmp_path / "failures.jsonl"
    append_failures(path, [make_failure("p1"), make_failure("p2")])
    path.write_bytes(path.read_bytes() + b'{"mended": "p1"}\n')
    assert list(read_failures(path)) == ["p2"]


def test_half_a_character_in_a_message_does_not_stop_the_record(tmp_path):
    path = tmp_path / "failures.jsonl"
    append_failures(path, [Failure("judge", "p1", "bad-json", "got \ud83d")])
    assert read_failures(path)["p1"].message == "got \ufffd"
