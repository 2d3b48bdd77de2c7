"""The loop: generate, train, evaluate, decide; the next round starts from what was promoted.

Every round is a folder of its own: a run, a checkpoint, an evaluation of checkpoint against parent,
and the decision. Nothing of an earlier round is modified. Repeating the loop goes on where it
stopped: runs, training and evaluations resume by themselves, decided rounds are only read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rlaif.config import RunConfig, load_config
from rlaif.config.evaluate import EvaluateConfig
from rlaif.config.loop import LoopConfig
from rlaif.config.train import DpoConfig
from rlaif.errors import ConfigError, RunMismatch
from rlaif.evaluation import evaluate
from rlaif.evaluation.scorecard import Scorecard, write_whole
from rlaif.loop.round import Round, decide, read_round
from rlaif.loop.shown import UNSEEN, Shown
from rlaif.pipeline import export, generate
from rlaif.records import content_seed
from rlaif.training import train_dpo


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a loop ended."""

    rounds: tuple[Round, ...]
    model: str
    """The last promoted checkpoint, or the model it all started from."""

    why: str

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dictionary."""
        return {
            "model": self.model,
            "why": self.why,
            "rounds": [one.to_json() for one in self.rounds],
        }

    def summary(self) -> str:
        """One line for a person."""
        promoted = sum(one.promoted for one in self.rounds)
        return f"{promoted} of {len(self.rounds)} rounds promoted; {self.why}; model: {self.model}"


def run_loop(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    on_round: Callable[[Round], None] | None = None,
    shown: Shown = UNSEEN,
) -> Outcome:
    """Run rounds until there are enough of them or too many in a row brought nothing.

    Args:
        config: The loop file, or the same as a mapping.
        overrides: Dotted keys to values.
        on_round: Called with every decided round, earlier ones included.
        shown: How the stages of a round are shown.

    Raises:
        InputError: One of the files cannot be used; nothing was started.
        RunMismatch: ``out`` holds a loop with other settings.
    """
    settings = load_config(LoopConfig, config, overrides)
    first = _check(settings)
    _remember(settings)
    rounds: list[Round] = []
    model, idle = first, 0
    for number in range(1, settings.rounds + 1):
        folder = settings.out / f"round-{number:02d}"
        done = read_round(folder / "round.json")
        if done is None:
            done = _round(settings, folder, number, model, shown)
            write_whole(folder / "round.json", orjson.dumps(done.to_json()) + b"\n")
        rounds.append(done)
        if on_round is not None:
            on_round(done)
        model = done.checkpoint if done.promoted else model
        idle = 0 if done.promoted else idle + 1
        if idle >= settings.stop_after:
            return Outcome(tuple(rounds), model, f"{idle} rounds in a row brought no gain")
    return Outcome(tuple(rounds), model, "all rounds are done")


def _check(settings: LoopConfig) -> str:
    """Load every file once before anything starts; return the model the loop starts from."""
    run = load_config(RunConfig, settings.run)
    load_config(DpoConfig, settings.train, {"data": "x", "out": "x", "model": "x"})
    load_config(EvaluateConfig, settings.evaluate)
    if run.student.engine != "transformers":
        raise ConfigError(
            f"{settings.run}: student.engine is {run.student.engine!r}; the loop trains the "
            "student, so it must be a transformers model",
            hint="set student.engine: transformers",
        )
    return run.student.model


def _remember(settings: LoopConfig) -> None:
    """Note what was asked, and refuse to go on under other settings."""
    path = settings.out / "loop.json"
    asked = settings.model_dump(mode="json", exclude={"rounds", "stop_after", "out"})
    if path.exists():
        before = orjson.loads(path.read_bytes())
        changed = sorted(key for key in asked if before.get(key) != asked[key])
        if changed:
            raise RunMismatch(
                f"{settings.out} holds a loop with other settings: {', '.join(changed)}",
                hint="choose another out, or go back to the old settings",
            )
        return
    write_whole(path, orjson.dumps(asked, option=orjson.OPT_INDENT_2) + b"\n")


def _round(settings: LoopConfig, folder: Path, number: int, model: str, shown: Shown) -> Round:
    run_file = load_config(RunConfig, settings.run)
    shown.on_stage(number, "generate")
    with shown.generating() as on_generated:
        run = generate(
            settings.run,
            overrides={
                "student.model": model,
                # Fresh samples each round, though the prompts stay the same.
                "seed": content_seed(run_file.seed, "round", number),
                "out": str(folder / "run"),
            },
            on_progress=on_generated,
        )
    if run.status().pairs == 0:
        why = "no preference pair was left to train on"
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
    card = _evaluate(settings, folder / "evaluation", model, str(checkpoint), shown)
    change = card.change("round", settings.measure)
    promoted, why = decide(
        change.estimate,
        change.low,
        change.high,
        direction=settings.direction,
        min_gain=settings.min_gain,
    )
    return Round(
        number,
        model,
        str(checkpoint),
        promoted,
        f"{settings.measure} {why}",
        exported.records,
        change.estimate,
        change.low,
        change.high,
    )


def _evaluate(
    settings: LoopConfig, out: Path, parent: str, checkpoint: str, shown: Shown
) -> Scorecard:
    models = [
        {"name": "parent", "engine": "transformers", "model": parent},
        {"name": "round", "engine": "transformers", "model": checkpoint},
    ]
    with shown.evaluating() as on_evaluated:
        return evaluate(
            settings.evaluate,
            overrides={"models": models, "baseline": "parent", "out": str(out)},
            on_progress=on_evaluated,
        )
