import os
import signal
import threading
from pathlib import Path

import pytest

from rlaif.errors import InputError, RunError, RunLocked, RunMismatch
from rlaif.training.harness.folder import TrainResult, open_training
from rlaif.training.harness.stopping import Interrupts

PLAN = {"beta": 0.1, "data": ["a"]}


def result(out: Path) -> TrainResult:
    return TrainResult(out=out, kind="dpo", steps=7, metrics={"loss": 0.5})


def test_a_finished_training_is_remembered(tmp_path):
    folder = open_training(tmp_path / "out", "dpo", PLAN)
    assert folder.finished() is None
    folder.finish(result(folder.out), keep_checkpoints=False)
    folder.close()
    again = open_training(tmp_path / "out", "dpo", PLAN)
    found = again.finished()
    again.close()
    assert found is not None
    assert (found.steps, found.metrics, found.already_finished) == (7, {"loss": 0.5}, True)


def test_another_plan_is_refused_and_what_differs_is_named(tmp_path):
    open_training(tmp_path / "out", "dpo", PLAN).close()
    with pytest.raises(RunMismatch, match=r"beta \(0\.1, now 0\.2\)") as caught:
        open_training(tmp_path / "out", "dpo", PLAN | {"beta": 0.2})
    assert "--force" in caught.value.hint
    with pytest.raises(RunMismatch, match=r"kind \(dpo, now sft\)"):
        open_training(tmp_path / "out", "sft", PLAN)


def test_force_starts_over_and_removes_only_what_is_ours(tmp_path):
    folder = open_training(tmp_path / "out", "dpo", PLAN)
    (folder.out / "metrics.jsonl").write_text("{}", encoding="utf-8")
    (folder.out / "mine.txt").write_text("x", encoding="utf-8")
    (folder.checkpoints / "checkpoint-3").mkdir(parents=True)
    folder.mark_complete(3)
    folder.close()
    folder = open_training(tmp_path / "out", "dpo", PLAN | {"beta": 0.2}, force=True)
    assert folder.last_checkpoint() is None
    assert not (folder.out / "metrics.jsonl").exists()
    assert (folder.out / "mine.txt").exists()
    folder.close()


def test_a_folder_that_is_not_a_training_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("x", encoding="utf-8")
    for force in (False, True):
        with pytest.raises(InputError, match=r"not from a training \(thesis\.txt\)"):
            open_training(tmp_path, "dpo", PLAN, force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("content", "error"), [("{}", InputError), ('{"plan": 1}', InputError), ("// mine", RunError)]
)
def test_force_removes_nothing_beside_a_plan_of_somebody_else(
    content: str, error: type[Exception], tmp_path: Path
):
    (tmp_path / "training.json").write_text(content, encoding="utf-8")
    (tmp_path / "checkpoints" / "checkpoint-3").mkdir(parents=True)
    (tmp_path / "checkpoints" / "checkpoint-3" / "weights").write_text("years of work")
    for force in (True, False):
        with pytest.raises(error) as caught:
            open_training(tmp_path, "dpo", PLAN, force=force)
        assert "--force" not in str(caught.value)
    assert (tmp_path / "checkpoints" / "checkpoint-3" / "weights").exists()
    assert (tmp_path / "training.json").read_text(encoding="utf-8") == content


def test_a_crash_before_the_plan_does_not_spoil_the_folder(tmp_path: Path):
    (tmp_path / "lock").write_text("")
    (tmp_path / "training.json.7.tmp").write_text("{")
    open_training(tmp_path, "dpo", PLAN).close()
    assert (tmp_path / "training.json").exists()


def test_force_removes_a_link_and_not_what_it_names(tmp_path: Path):
    open_training(tmp_path / "out", "dpo", PLAN).close()
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "notes").write_text("mine")
    (tmp_path / "out" / "checkpoints").symlink_to(tmp_path / "disk")
    open_training(tmp_path / "out", "dpo", PLAN, force=True).close()
    assert not (tmp_path / "out" / "checkpoints").exists()
    assert (tmp_path / "disk" / "notes").read_text() == "mine"


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(RunError, match="is a file, not a folder"):
        open_training(tmp_path / "out", "dpo", PLAN, force=True)


def test_two_processes_cannot_train_into_one_folder(tmp_path):
    folder = open_training(tmp_path / "out", "dpo", PLAN)
    with pytest.raises(RunLocked):
        open_training(tmp_path / "out", "dpo", PLAN)
    folder.close()


def test_only_whole_checkpoints_count_and_others_are_removed(tmp_path):
    folder = open_training(tmp_path / "out", "dpo", PLAN)
    for step in (5, 10, 15):
        (folder.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
    folder.mark_complete(5)
    folder.mark_complete(10)
    folder.close()
    again = open_training(tmp_path / "out", "dpo", PLAN)
    assert again.last_checkpoint() == (10, folder.checkpoints / "checkpoint-10")
    assert not (folder.checkpoints / "checkpoint-15").exists()
    again.close()


def test_a_damaged_plan_is_one_clear_line(tmp_path):
    open_training(tmp_path / "out", "dpo", PLAN).close()
    (tmp_path / "out" / "training.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="damaged"):
        open_training(tmp_path / "out", "dpo", PLAN)


def test_the_first_interrupt_only_leaves_a_mark():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # the echo of a launcher
        assert interrupts.requested
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_stops_at_once(number, monkeypatch):
    monkeypatch.setattr("rlaif.training.harness.stopping._ECHO", -1.0)
    with Interrupts():
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_outside_the_main_thread_nothing_is_caught():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def inside() -> None:
        with Interrupts() as interrupts:
            seen.append((interrupts.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
