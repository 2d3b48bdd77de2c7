"""A disk that fills ends a training with one clear line, and what was saved before stays."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rlaif.errors import TrainingError
from rlaif.training.dpo.train import train_dpo
from rlaif.training.harness import metrics, recipe
from rlaif.training.harness.stopping import is_disk_full
from tests.training.tiny import colour_pairs

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing")


def train(tiny: Path, out: Path, **changes: Any) -> Any:
    settings: dict[str, Any] = {"batch_size": 4, "save_every": 2, "learning_rate": 1e-3}
    return train_dpo(dataset=colour_pairs(16), model=tiny, out=out, **{**settings, **changes})


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size; writing on fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [20_000, 150_000], ids=["weights", "optimiser"])
def test_a_checkpoint_that_does_not_fit_is_one_clear_line(size: int, tiny: Path, tmp_path: Path):
    out = tmp_path / "out"
    with largest_file(size), pytest.raises(TrainingError, match="the disk is full") as caught:
        train(tiny, out)
    assert "repeat the command to resume" in caught.value.hint
    assert "no checkpoint is kept" in caught.value.message
    assert not list((out / "checkpoints").glob("checkpoint-*"))
    assert train(tiny, out).steps == 4


def test_the_checkpoint_before_is_kept_and_resumed_from(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written: Any = metrics.MetricsLog.write

    def fill(self: Any, step: int, values: Any) -> None:
        if step == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(self, step, values)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(metrics.MetricsLog, "write", fill)
        with pytest.raises(TrainingError, match="the checkpoint of step 2 is kept"):
            train(tiny, out)
    assert train(tiny, out).resumed_from == 2


def test_final_models_that_do_not_fit_lose_no_training(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fill(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "write_card", fill)
        with pytest.raises(TrainingError, match="after step 4; the checkpoint of step 4 is kept"):
            train(tiny, out)
    assert not (out / ".saving").exists()
    assert train(tiny, out).resumed_from == 4


def test_other_problems_are_not_taken_for_a_full_disk():
    assert not is_disk_full(OSError(errno.ENOENT, "No such file"))
    assert not is_disk_full(RuntimeError("no kernel image"))
    wrapped = RuntimeError("cannot save")
    wrapped.__cause__ = OSError(errno.EDQUOT, "quota")
    assert is_disk_full(wrapped)
