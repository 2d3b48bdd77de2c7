import os
import time

import pytest

from rlaif.errors import InputError, RunError, RunLocked, RunMismatch
from rlaif.records import Failure
from rlaif.runs import RunWriter, open_run, writer as writer_module
from rlaif.runs.shards import shard_paths
from tests.runs.made import make_entry, make_manifest, make_row, row_bytes


def make_failure(record_id: str) -> Failure:
    return Failure("sample", record_id, "timeout", "no answer")


def test_a_run_is_written_and_read(tmp_path):
    run = tmp_path / "runs" / "demo"
    with RunWriter(run, make_manifest(), rows_per_shard=2) as writer:
        for number in range(5):
            assert writer.add_row(make_row(number))
        writer.add_failure(make_failure("p9"))
        writer.ledger.put(make_entry(1))
        writer.log("finished")
    read = open_run(run)
    assert {row_bytes(row) for row in read.rows()} == {row_bytes(make_row(n)) for n in range(5)}
    assert [failure.record_id for failure in read.failures()] == ["p9"]
    with read.ledger() as ledger:
        assert ledger.totals()[0].calls == 1
    assert sorted(path.name for path in run.iterdir()) == [
        "failures.jsonl",
        "ledger.sqlite",
        "lock",
        "log.jsonl",
        "manifest.json",
        "shards",
    ]


def test_a_full_shard_is_written_without_a_flush(tmp_path):
    with RunWriter(tmp_path, make_manifest(), rows_per_shard=3) as writer:
        for number in range(7):
            writer.add_row(make_row(number))
        deadline = time.monotonic() + 10
        while len(shard_paths(tmp_path / "shards")) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert len(shard_paths(tmp_path / "shards")) == 3


def test_waiting_rows_become_visible_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "_PATIENCE_SECONDS", 0.5)
    with RunWriter(tmp_path, make_manifest()) as writer:
        writer.add_row(make_row(1))
        assert shard_paths(tmp_path / "shards") == []
        time.sleep(0.6)
        writer.add_row(make_row(2))
        writer.add_row(make_row(3))
        deadline = time.monotonic() + 10
        while not shard_paths(tmp_path / "shards"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(list(open_run(tmp_path).rows())) == 2


def test_a_slow_run_is_soon_visible_and_a_week_of_it_makes_hundreds_of_shards():
    age, shards = 0.0, 0
    while age < 7 * 24 * 3600:
        age += writer_module.patience(age)
        shards += 1
    assert writer_module.patience(0.0) == 30.0
    assert 100 < shards < 400


def test_a_row_is_taken_once(tmp_path):
    with RunWriter(tmp_path, make_manifest()) as writer:
        assert writer.add_row(make_row(1))
        assert not writer.add_row(make_row(1, text="other"))
    with RunWriter(tmp_path, make_manifest()) as writer:
        assert bytes.fromhex(make_row(1).id) in writer.done_ids()
        assert not writer.add_row(make_row(1))
        assert writer.add_row(make_row(2))
    assert len(list(open_run(tmp_path).rows())) == 2


def test_failures_are_remembered_until_a_row_makes_up_for_them(tmp_path):
    with RunWriter(tmp_path, make_manifest()) as writer:
        writer.add_failure(make_failure("p1"))
        writer.add_failure(make_failure("p2"))
        assert writer.failed_ids() == {"p1", "p2"}
    with RunWriter(tmp_path, make_manifest()) as writer:
        assert writer.failed_ids() == {"p1", "p2"}
        writer.add_row(make_row(1))
        assert writer.failed_ids() == {"p2"}
    with RunWriter(tmp_path, make_manifest()) as writer:
        assert writer.failed_ids() == {"p2"}


def test_what_is_finished_is_kept_when_an_exception_ends_the_run(tmp_path):
    def interrupted() -> None:
        with RunWriter(tmp_path, make_manifest()) as writer:
            writer.add_row(make_row(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(list(open_run(tmp_path).rows())) == 1
    with RunWriter(tmp_path, make_manifest()):
        pass


def test_a_second_writer_is_refused_and_disturbs_nothing(tmp_path):
    with RunWriter(tmp_path, make_manifest()) as writer:
        unfinished = tmp_path / "shards" / "x.parquet.1.tmp"
        unfinished.write_bytes(b"half")
        with pytest.raises(RunLocked, match=str(os.getpid())):
            RunWriter(tmp_path, make_manifest())
        assert unfinished.exists()
        writer.add_row(make_row(1))
    assert len(list(open_run(tmp_path).rows())) == 1


def test_another_plan_is_refused_and_the_run_stays_usable(tmp_path):
    with RunWriter(tmp_path, make_manifest()) as writer:
        writer.add_row(make_row(1))
    with pytest.raises(RunMismatch, match="seed: 7 → 8"):
        RunWriter(tmp_path, make_manifest(seed=8))
    with RunWriter(tmp_path, make_manifest()) as writer:
        assert len(writer.done_ids()) == 1


def test_the_first_manifest_stays(tmp_path):
    first = make_manifest()
    RunWriter(tmp_path, first).close()
    with RunWriter(tmp_path, make_manifest()) as writer:
        assert writer.manifest == first


def test_files_left_by_a_crash_are_removed_and_logged(tmp_path):
    RunWriter(tmp_path, make_manifest()).close()
    (tmp_path / "manifest.json.7.tmp").write_bytes(b"{")
    (tmp_path / "shards" / "x.parquet.7.tmp").write_bytes(b"PAR1")
    (tmp_path / "failures.jsonl").write_bytes(b'{"stage": "sam')
    RunWriter(tmp_path, make_manifest()).close()
    assert list((tmp_path / "shards").iterdir()) == []
    assert not (tmp_path / "manifest.json.7.tmp").exists()
    assert (tmp_path / "failures.jsonl").read_bytes() == b""
    log = (tmp_path / "log.jsonl").read_text()
    assert "x.parquet.7.tmp" in log
    assert "torn last line" in log


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    for name in ("thesis.tex", "notes.tmp", "lock"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("years of work")
        with pytest.raises((RunError, InputError), match=f"{name}.*so it is not a run|not a lock"):
            RunWriter(folder, make_manifest())
        assert {path.name: path.read_text() for path in folder.iterdir()} == {name: "years of work"}


def test_a_crash_before_the_manifest_does_not_spoil_the_folder(tmp_path):
    (tmp_path / "lock").write_text("")
    (tmp_path / "manifest.json.7.tmp").write_text("{")
    RunWriter(tmp_path, make_manifest()).close()
    assert open_run(tmp_path).manifest.name == "demo"


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        RunWriter(tmp_path / "file" / "run", make_manifest())


def test_reusing_a_folder_that_is_not_a_run_writes_nothing(tmp_path):
    with pytest.raises(InputError, match="ledger not found"):
        RunWriter(tmp_path / "run", make_manifest(), reuse=[tmp_path / "absent"])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_shard_stops_the_run_before_it_starts(tmp_path):
    with RunWriter(tmp_path, make_manifest()) as writer:
        writer.add_row(make_row(1))
    (path,) = shard_paths(tmp_path / "shards")
    os.truncate(path, 50)
    with pytest.raises(RunError, match="damaged shard"):
        RunWriter(tmp_path, make_manifest())
    path.rename(f"{path}.damaged")
    with RunWriter(tmp_path, make_manifest()) as writer:
        assert writer.add_row(make_row(1))


def test_after_a_failed_write_nothing_more_is_taken(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise RunError("the disk is full")

    with RunWriter(tmp_path, make_manifest()) as writer:
        writer.add_row(make_row(1))
        writer.flush()
        monkeypatch.setattr(writer_module, "write_shard", full)
        writer.add_row(make_row(2))
        with pytest.raises(RunError, match="full"):
            writer.flush()
        with pytest.raises(RunError, match="full"):
            writer.add_row(make_row(3))
    monkeypatch.undo()
    with RunWriter(tmp_path, make_manifest()) as writer:
        assert len(writer.done_ids()) == 1


def test_a_closed_run_takes_nothing(tmp_path):
    writer = RunWriter(tmp_path, make_manifest())
    writer.close()
    writer.close()
    with pytest.raises(RunError, match="closed"):
        writer.add_row(make_row(1))


def test_no_secret_reaches_any_file(tmp_path, monkeypatch):
    monkeypatch.setenv("RLAIF_TEST_KEY", "sk-very-secret-0123456789")
    with RunWriter(tmp_path, make_manifest(api_key_env="RLAIF_TEST_KEY")) as writer:
        writer.add_row(make_row(1))
        writer.add_failure(make_failure("p2"))
        writer.ledger.put(make_entry(1))
        writer.log("started")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 6
    for path in files:
        assert b"sk-very-secret" not in path.read_bytes(), path
