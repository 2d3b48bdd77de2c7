"""The folder of one training: its plan, where it can resume, and its result.

    out/
      training.json            the plan, and `running` or `finished`; finished is written last
      model.safetensors, …     the final policy or reward model, with tokenizer and README.md
      adapter/                 the adapter by itself, when one was trained
      metrics.jsonl, curves.png, tensorboard/, samples.jsonl
      checkpoints/checkpoint-N/complete.json   marks a complete checkpoint

The same command in the same folder resumes; another plan is refused.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from rlaif.errors import InputError, RunError, RunMismatch
from rlaif.records import content_id
from rlaif.runs.files import is_unfinished, make_folder, write_whole
from rlaif.runs.layout import Layout
from rlaif.runs.lock import RunLock

SCHEMA = 1
_PLAN = "training.json"
_KEYS = {"schema", "kind", "fingerprint", "plan", "state"}
_DAMAGED = "restore it, or choose another out"
_COMPLETE = "complete.json"
_BY_IDENTITY = ("reward", "length_penalty")
"""Missing in the plan of a training whose scorer had no identity: nothing to compare with."""

_OURS = ("checkpoints", "tensorboard", "adapter", "critic", "metrics.jsonl", "samples.jsonl")


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training did."""

    out: Path
    kind: str
    """``sft``, ``reward``, ``dpo``, ``ppo``, ``rloo`` or ``grpo``."""

    steps: int
    """Optimiser steps in all, earlier processes included."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    """The last values of what was measured, and what was measured at the end."""

    seconds: float = 0.0
    """Wall time of this process."""

    resumed_from: int = 0
    """The step it resumed from; 0 for a fresh start."""

    already_finished: bool = False
    """True when nothing was done because the folder held the finished training."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields, with ``out`` as text."""
        return {**asdict(self), "out": str(self.out)}


class TrainingFolder:
    """Owns ``out`` while a training runs. Open with `open_training`; close it at the end."""

    def __init__(self, out: Path, kind: str, plan: Mapping[str, Any], lock: RunLock | None) -> None:
        self.out = out
        self.kind = kind
        self.checkpoints = out / "checkpoints"
        self.plan = dict(plan)
        self._lock = lock

    @property
    def is_main(self) -> bool:
        """Whether this process writes; exactly one of a distributed training does."""
        return self._lock is not None

    def finished(self) -> TrainResult | None:
        """Return the result of a training that has finished, else None."""
        document = _read_json(self.out / _PLAN)
        if document is None or document["state"] != "finished":
            return None
        result = document["result"]
        return TrainResult(
            out=self.out,
            kind=self.kind,
            steps=result["steps"],
            metrics=result["metrics"],
            already_finished=True,
        )

    def last_checkpoint(self) -> tuple[int, Path] | None:
        """Return step and folder of the newest complete checkpoint."""
        steps = [
            (int(path.name.rpartition("-")[2]), path)
            for path in self.checkpoints.glob("checkpoint-*")
            if (path / _COMPLETE).exists()
        ]
        return max(steps, default=None)

    def drop_partial(self) -> None:
        """Remove the incomplete checkpoints of a killed process."""
        for path in self.checkpoints.glob("checkpoint-*"):
            if not (path / _COMPLETE).exists():
                shutil.rmtree(path)

    def mark_complete(self, step: int) -> None:
        """Mark ``checkpoint-<step>`` as complete."""
        path = self.checkpoints / f"checkpoint-{step}"
        write_whole(path / _COMPLETE, orjson.dumps({"step": step}))

    def start(self) -> None:
        """Write the plan down."""
        self._write({"state": "running"})

    def finish(self, result: TrainResult, *, keep_checkpoints: bool) -> None:
        """Write the result down, and drop what only a resume would need."""
        self._write({"state": "finished", "result": result.to_json()})
        if not keep_checkpoints:
            shutil.rmtree(self.checkpoints, ignore_errors=True)

    def close(self) -> None:
        """Release the lock; safe to call twice."""
        if self._lock is not None:
            self._lock.release()

    def _write(self, state: Mapping[str, Any]) -> None:
        document = {
            "schema": SCHEMA,
            "kind": self.kind,
            "fingerprint": fingerprint(self.kind, self.plan),
            "plan": self.plan,
            **state,
        }
        data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
        write_whole(self.out / _PLAN, data + b"\n")


def open_training(
    out: Path, kind: str, plan: Mapping[str, Any], *, force: bool = False, main: bool = True
) -> TrainingFolder:
    """Take a folder for a training, new or to be resumed.

    Args:
        out: The folder; created if missing.
        kind: Which trainer.
        plan: JSON-compatible; whatever changes the result. A resume needs an equal one.
        force: Start over: what an earlier training left in the folder is removed.
        main: False on all processes but the first, which only read.

    Raises:
        RunMismatch: The folder holds another training.
        RunLocked: Another process trains into it.
        InputError: The folder holds files that are not from a training.
    """
    if not main:
        return TrainingFolder(out, kind, plan, None)
    make_folder(out)
    _refuse_strangers(out)
    lock = RunLock(out)
    try:
        folder = TrainingFolder(out, kind, plan, lock)
        if force:
            _clear(out)
        else:
            _check_same(out, kind, plan)
        folder.drop_partial()
        if folder.finished() is None:
            folder.start()
    except BaseException:
        lock.release()
        raise
    return folder


def fingerprint(kind: str, plan: Mapping[str, Any]) -> str:
    """Name a plan by its content."""
    return content_id("training", SCHEMA, kind, dict(plan))


def _refuse_strangers(out: Path) -> None:
    """A folder is empty, but for what a crash leaves, or holds a plan of ours."""
    document = _read_json(out / _PLAN)
    if document is not None and document.keys() >= _KEYS:
        return
    for path in sorted(out.iterdir()):
        if path != Layout(out).lock and not is_unfinished(path):
            raise InputError(
                f"{out}: holds files that are not from a training ({path.name})",
                hint="choose an empty folder as out",
            )


def _check_same(out: Path, kind: str, plan: Mapping[str, Any]) -> None:
    document = _read_json(out / _PLAN)
    if document is None:
        return
    if document.get("schema") != SCHEMA:
        raise RunMismatch(f"{out}: written by another version of this program")
    if document["fingerprint"] == fingerprint(kind, plan):
        return
    if document["kind"] != kind:
        changed = [f"kind ({document['kind']}, now {kind})"]
    else:
        before = document["plan"]
        compared = {*before, *plan} - {key for key in _BY_IDENTITY if key not in before}
        changed = [
            _difference(key, before.get(key), plan.get(key))
            for key in sorted(compared)
            if before.get(key) != plan.get(key)
        ]
    if not changed:
        return
    raise RunMismatch(
        f"{out}: holds another training; what differs: {', '.join(changed)}",
        hint="choose another out, or --force to start over",
    )


def _difference(key: str, before: Any, now: Any) -> str:
    shown = (f"{before!r:.40}", f"{now!r:.40}")
    return key if shown[0] == shown[1] else f"{key} ({shown[0]}, now {shown[1]})"


def _clear(out: Path) -> None:
    for name in (_PLAN, *_OURS):
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        document = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, orjson.JSONDecodeError) as problem:
        raise RunError(f"{path}: damaged: {problem}", hint=_DAMAGED) from problem
    if not isinstance(document, dict):
        raise RunError(f"{path}: damaged", hint=_DAMAGED)
    return document
