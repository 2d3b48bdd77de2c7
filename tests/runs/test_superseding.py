"""A row that is made anew counts in place of the old one, for every reader and after any crash."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rlaif.records import Choice, Failure, Prompt, Response, Row, content_id
from rlaif.runs import Manifest, RunWriter, open_run, write_shard
from rlaif.runs.ids import IdSet
from rlaif.runs.shards import Shards, done_ids, read_rows, shard_paths
from rlaif.runs.status import RunStatus
from tests.runs.made import make_judgment, make_row, make_verdict


def row(number: int, *failed: str) -> Row:
    prompt = Prompt.build(f"prompt {number}", id=f"p{number}")
    answers = [] if failed else [Response.build(prompt.id, "good", index=0, origin="sample")]
    failures = tuple(Failure("sample", prompt.id, "http-400", words) for words in failed)
    return Row(content_id("row", number), prompt, tuple(answers), failures=failures)


def writer(folder: Path) -> RunWriter:
    manifest = Manifest.build(
        name="run", plan={}, config={}, constitution_label="c@1", constitution={}, engines={},
        notices=(),
    )  # fmt: skip
    return RunWriter(folder, manifest)


def status(folder: Path) -> RunStatus:
    return open_run(folder).status()


def write(folder: Path, *rows: Row, again: bool = False) -> Path:
    return write_shard(folder, rows, run="run", supersedes=again)


def test_the_newest_of_several_rows_counts_and_the_order_of_others_stays(tmp_path: Path):
    write(tmp_path, row(1, "x"), row(2))
    write(tmp_path, row(3))
    write(tmp_path, row(1, "y"), again=True)
    write(tmp_path, row(1), again=True)
    rows = {one.id: one for one in read_rows(tmp_path)}
    assert rows == {one.id: one for one in (row(1), row(2), row(3))}
    assert sum(1 for _ in read_rows(tmp_path)) == 3
    assert len(done_ids(tmp_path)) == 3
    assert [path.name[:13] for path in shard_paths(tmp_path)[2:]] == [
        "again-000001-",
        "again-000002-",
    ]


def test_a_damaged_newer_shard_lets_the_old_rows_count(tmp_path: Path):
    write(tmp_path, row(1, "x"))
    write(tmp_path, row(1), again=True).write_bytes(b"broken")
    shards = Shards(tmp_path)
    (batch,) = shards.read(shards.paths[0], ["failures"])
    assert len(batch) == 1


def test_rows_without_failures_and_rows_not_reopened_are_taken_once(tmp_path: Path):
    with writer(tmp_path / "run") as opened:
        assert opened.add_row(row(1, "x"))
        assert opened.add_row(row(2))
        opened.flush()
        assert not opened.add_row(row(1))
        assert set(opened.reopen_failed()) == {bytes.fromhex(row(1).id)}
        assert not opened.add_row(row(2, "z"))
        assert not opened.add_row(row(1))
        assert not opened.add_row(row(1, "later"))
    assert {one.id: one for one in open_run(tmp_path / "run").rows()} == {
        row(1).id: row(1),
        row(2).id: row(2),
    }
    found = status(tmp_path / "run")
    assert (found.rows, found.messages) == (2, ())


def test_a_row_whose_calls_fail_in_the_same_way_again_is_not_written_again(tmp_path: Path):
    with writer(tmp_path / "run") as opened:
        opened.add_row(row(1, "x"))
        opened.flush()
        opened.reopen_failed()
        opened.add_row(row(1, "x"))
    assert len(shard_paths(tmp_path / "run" / "shards")) == 1


def judged(number: int, verdicts: int, *failed: str, responses: int = 2) -> Row:
    whole = make_row(number)
    spoken = tuple(make_verdict() for _ in range(verdicts)) or (make_verdict(Choice.ABSTAIN),)
    failures = tuple(Failure("judge", f"p{number}", "http-500", words) for words in failed)
    return replace(
        whole,
        responses=whole.responses[:responses],
        judgments=(make_judgment(whole.responses, 0.5, *spoken),),
        pairs=(),
        failures=failures,
    )


@pytest.mark.parametrize(
    ("anew", "counts"),
    [
        (judged(1, 2, "y", responses=1), False),
        (judged(1, 0, "y"), False),
        (judged(1, 1, "y"), True),
        (judged(1, 2, "y", "z"), True),
        (judged(1, 0), True),
    ],
)
def test_a_row_with_fewer_answers_than_before_counts_only_if_no_call_failed(
    tmp_path: Path, anew: Row, counts: bool
):
    before = judged(1, 1, "x")
    with writer(tmp_path / "run") as opened:
        opened.add_row(before)
        opened.flush()
        opened.reopen_failed()
        opened.add_row(anew)
    assert list(open_run(tmp_path / "run").rows()) == [anew if counts else before]


def test_of_many_shards_only_a_damaged_one_supersedes_nothing(tmp_path: Path):
    write(tmp_path, *(row(number, "x") for number in range(70)))
    again = [write(tmp_path, row(number), again=True) for number in range(70)]
    again[3].write_bytes(b"broken")
    shards = Shards(tmp_path)
    (left,) = [one for batch in shards.read(shards.paths[0], []) for one in _ids_of(batch)]
    assert left == row(3).id


def _ids_of(batch: pa.RecordBatch) -> list[str]:
    return [str(one) for one in batch.column("id").to_pylist()]


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_crash_while_rows_are_made_anew_loses_and_doubles_none(tmp_path: Path, cut: str):
    run = tmp_path / "run"
    with writer(run) as opened:
        opened.add_row(row(1, "x"))
        opened.add_row(row(2, "x"))
    if cut == "after":
        write(run / "shards", row(1), again=True)
    (run / "shards" / "again-000009-x.parquet.123.partial").write_bytes(b"half")
    with writer(run) as opened:
        left = opened.reopen_failed()
        assert len(left) == (1 if cut == "after" else 2)
        for number in (1, 2):
            opened.add_row(row(number))
    rows = list(open_run(run).rows())
    assert sorted(rows, key=lambda one: one.id) == sorted([row(1), row(2)], key=lambda one: one.id)


def test_orphans_are_in_no_count_until_the_input_has_them_again(tmp_path: Path):
    run = tmp_path / "run"

    def ids(*numbers: int) -> IdSet:
        return IdSet(bytes.fromhex(row(number).id) for number in numbers)

    with writer(run) as opened:
        for number in (1, 2, 3):
            opened.add_row(row(number))
        opened.flush()
        assert opened.find_orphans(ids(1, 3, 4), lambda prompt_id: prompt_id == "p2") == 1
    assert sorted(one.prompt.id for one in open_run(run).rows()) == ["p1", "p3"]
    assert open_run(run).count_rows() == 2
    kept = open_run(run, keep_orphans=True)
    assert (sum(1 for _ in kept.rows()), kept.count_rows(), kept.count_orphans()) == (3, 3, 1)
    found = status(run)
    assert (found.rows, found.orphans, found.responses) == (2, 1, 2)
    facts: dict[str, Any] = found.to_json()
    assert facts["orphans"] == 1
    with writer(run) as opened:
        assert opened.find_orphans(ids(1), lambda _: False) == 1
        assert opened.find_orphans(ids(2), lambda _: False) == 0
    assert status(run).rows == 3


def test_orphans_in_a_shard_that_was_moved_aside_are_not_counted(tmp_path: Path):
    run = tmp_path / "run"
    with writer(run) as opened:
        for number in (1, 2):
            opened.add_row(row(number))
            opened.flush()
        opened.find_orphans(IdSet(), lambda prompt_id: prompt_id == "p1")
    assert (open_run(run).count_rows(), open_run(run).count_orphans()) == (1, 1)
    first = shard_paths(run / "shards")[0]
    first.rename(f"{first}.damaged")
    assert (open_run(run).count_rows(), open_run(run).count_orphans()) == (1, 0)
