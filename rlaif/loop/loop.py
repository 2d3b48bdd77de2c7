"""The loop: generate, train, evaluate, decide; the next round starts from the promoted model.

Every round has its own folder: a run, a checkpoint, an evaluation of the checkpoint against its
parent, and the decision. Earlier rounds are never modified. Repeating the loop resumes it: runs,
training and evaluations resume on their own, decided rounds are only read.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from rlaif.config import RunConfig, load_config
from rlaif.config.evaluate import LoopConfig
from rlaif.config.train import DpoConfig
from rlaif.errors import RunError, RunMismatch
from rlaif.evaluation import OnProgress as OnEvaluated, evaluate
from rlaif.evaluation.scorecard import Scorecard, write_whole
from rlaif.loop.checks import ROUND, check_files, check_rounds, evaluation_overrides
from rlaif.loop.round import Round, decide, read_round
from rlaif.pipeline import export, generate
from rlaif.pipeline.achieved import RETRY, check_run, why_nothing
from rlaif.pipeline.tally import OnProgress as OnGenerated
from rlaif.records import content_seed
from rlaif.training import train_dpo
from rlaif.training.harness.progress import Style

Stage = Literal["generate", "train", "evaluate"]


def _ignore(number: int, stage: Stage) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Shown:
    """How the progress of each stage is displayed (default: not at all).

    A display is entered when its stage starts and left when the stage ends, so all stages can use
    the same terminal.
    """

    on_stage: Callable[[int, Stage], None] = _ignore
    """Called with the number of the round and the stage that starts."""

    generating: Callable[[], AbstractContextManager[OnGenerated | None]] = nullcontext
    training: Style = "quiet"
    evaluating: Callable[[], AbstractContextManager[OnEvaluated | None]] = nullcontext


_UNSEEN = Shown()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a loop."""

    rounds: tuple[Round, ...]
    model: str
    """The last promoted checkpoint, or the model the loop started from."""

    why: str

    @property
    def nothing(self) -> str:
        """Why the loop achieved nothing: no round was trained and measured; empty if one was."""
        if any(each.change is not None for each in self.rounds):
            return ""
        return f"no round was trained and measured: {self.rounds[-1].why}"

    def to_json(self) -> dict[str, Any]:
        """Return the last model, why the loop ended, and all rounds."""
        return {
            "model": self.model,
            "why": self.why,
            "nothing": self.nothing,
            "rounds": [each.to_json() for each in self.rounds],
        }

    def summary(self) -> str:
        """Return the outcome in one line of text."""
        promoted = sum(each.promoted for each in self.rounds)
        return f"{promoted} of {len(self.rounds)} rounds promoted; {self.why}; model: {self.model}"


def run_loop(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    preflight: bool = True,
    on_round: Callable[[Round], None] | None = None,
    shown: Shown = _UNSEEN,
) -> Outcome:
    """Run rounds until all are done, or too many in a row brought no gain.

    Args:
        config: The loop file, or the same as a mapping.
        overrides: Dotted keys to values.
        preflight: Whether each server is asked once before the first round, and before each stage,
            where the files do not switch it off.
        on_round: Called with every decided round, including those of earlier calls.
        shown: How the progress of each stage is displayed.

    Raises:
        InputError: One of the files is invalid, or the measure cannot decide; nothing was started.
        RunMismatch: ``out`` contains a loop with other settings.
        RunError: A round has no rows, no readable verdict or no measurement; it stays undecided.
        TooManyFailed: Of a run or evaluation more failed than ``max_failed_share``; likewise.
    """
    settings = load_config(LoopConfig, config, overrides)
    switches = {} if preflight else {"preflight": False}
    model = check_files(settings)
    settings = _settle(settings, model, switches)
    rounds: list[Round] = []
    idle = 0
    for number in range(1, settings.rounds + 1):
        done = read_round(_record(settings, number))
        if done is None:
            done = _round(settings, _folder(settings, number), number, model, switches, shown)
            write_whole(_record(settings, number), orjson.dumps(done.to_json()) + b"\n")
        rounds.append(done)
        if on_round is not None:
            on_round(done)
        model = done.checkpoint if done.promoted else model
        idle = 0 if done.promoted else idle + 1
        if idle >= settings.stop_after:
            return Outcome(tuple(rounds), model, f"{idle} rounds in a row brought no gain")
    return Outcome(tuple(rounds), model, "all rounds are done")


def _settle(settings: LoopConfig, model: str, switches: Mapping[str, Any]) -> LoopConfig:
    """Check everything that the rounds to come will use, and write the settings into ``out``.

    Returns the settings with the direction chosen.

    Raises:
        RunMismatch: ``out`` contains a loop with other settings.
    """
    path = settings.out / "loop.json"
    before = orjson.loads(path.read_bytes()) if path.exists() else None
    if before is not None and settings.direction is None:
        settings = settings.model_copy(update={"direction": before["direction"]})
    current = settings.model_dump(mode="json", exclude={"rounds", "stop_after", "out"})
    if before is not None:
        changed = sorted(key for key in current if before.get(key) != current[key])
        if changed:
            raise RunMismatch(
                f"{settings.out} contains a loop with other settings: {', '.join(changed)}",
                hint="choose another out, or restore the earlier settings",
            )
    if all(read_round(_record(settings, n)) for n in range(1, settings.rounds + 1)):
        return settings
    settings = settings.model_copy(
        update={"direction": check_rounds(settings, model, switches, ask=before is None)}
    )
    current = settings.model_dump(mode="json", exclude={"rounds", "stop_after", "out"})
    write_whole(path, orjson.dumps(current, option=orjson.OPT_INDENT_2) + b"\n")
    return settings


def _folder(settings: LoopConfig, number: int) -> Path:
    return settings.out / f"round-{number:02d}"


def _record(settings: LoopConfig, number: int) -> Path:
    return _folder(settings, number) / "round.json"


def _round(
    settings: LoopConfig,
    folder: Path,
    number: int,
    model: str,
    switches: Mapping[str, Any],
    shown: Shown,
) -> Round:
    run_file = load_config(RunConfig, settings.run)
    shown.on_stage(number, "generate")
    with shown.generating() as on_generated:
        run = generate(
            settings.run,
            overrides={
                **switches,
                "student.model": model,
                # Fresh samples each round, though the prompts stay the same.
                "seed": content_seed(run_file.seed, "round", number),
                "out": str(folder / "run"),
            },
            on_progress=on_generated,
            # Of a round that resumes. A new one has nothing to retry.
            retry_failed=True,
        )
    status = run.status()
    if nothing := why_nothing(run, status):
        raise RunError(f"{run.path}: {nothing}", hint=RETRY)
    check_run(status, run_file.max_failed_share, retry=RETRY)
    if status.pairs == 0:
        why = "no preference pairs to train on"
        return Round(number, model, "", False, why, 0, None, None, None)
    exported = export(run, folder / "pairs", force=True)
    checkpoint = folder / "checkpoint"
    shown.on_stage(number, "train")
    train_dpo(
        dataset=folder / "pairs",
        model=model,
        out=checkpoint,
        style=shown.training,
        config=load_config(
            DpoConfig,
            settings.train,
            {"data": str(folder / "pairs"), "out": str(checkpoint), "model": model},
        ),
    )
    shown.on_stage(number, "evaluate")
    card = _evaluate(settings, folder / "evaluation", model, str(checkpoint), switches, shown)
    if card.nothing:
        raise RunError(f"{folder / 'evaluation'}: {card.nothing}", hint=RETRY)
    gain = card.gain(ROUND, settings.measure)
    change, low, high = (None, None, None) if gain is None else (gain.estimate, gain.low, gain.high)
    promoted, why = decide(
        change, low, high, direction=settings.direction or "up", min_gain=settings.min_gain
    )
    return Round(
        number,
        model,
        str(checkpoint),
        promoted,
        f"{settings.measure} {why}",
        exported.records,
        change,
        low,
        high,
    )


def _evaluate(
    settings: LoopConfig,
    out: Path,
    parent: str,
    checkpoint: str,
    switches: Mapping[str, Any],
    shown: Shown,
) -> Scorecard:
    with shown.evaluating() as on_evaluated:
        return evaluate(
            settings.evaluate,
            overrides={**switches, **evaluation_overrides(parent, checkpoint, out)},
            on_progress=on_evaluated,
        )
