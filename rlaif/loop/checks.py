"""What is checked before the first round: every file, and the measure that decides.

Models, judges and prompts are opened as the rounds will open them; servers are asked once, and
nothing is written.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rlaif.config import RunConfig, load_config
from rlaif.config.evaluate import EvaluateConfig, LoopConfig
from rlaif.config.train import DpoConfig
from rlaif.errors import ConfigError, InputError
from rlaif.evaluation.evaluate import check_evaluation
from rlaif.evaluation.judged import JUDGED_WINS
from rlaif.evaluation.measure import Measure
from rlaif.inputs import check_source
from rlaif.pipeline.build import build_parts, prompt_source
from rlaif.pipeline.checks import check_batches
from rlaif.sessions.concurrent import read_in_thread, run_sync
from rlaif.sessions.session import Session
from rlaif.training.harness.metrics import need_trackers

PARENT, ROUND = "parent", "round"
"""The names of the two models that every round's evaluation compares."""

Direction = Literal["up", "down"]


def evaluation_overrides(parent: str, checkpoint: str, out: Path) -> dict[str, Any]:
    """Return what replaces the settings of the evaluation file in a round."""
    return {
        "models": [
            {"name": PARENT, "engine": "transformers", "model": parent},
            {"name": ROUND, "engine": "transformers", "model": checkpoint},
        ],
        "baseline": PARENT,
        "out": str(out),
    }


def check_files(settings: LoopConfig) -> str:
    """Read the three files as the rounds will; return the model the loop starts from.

    Raises:
        ConfigError: One of them does not fit the loop.
    """
    run = load_config(RunConfig, settings.run)
    load_config(DpoConfig, settings.train, {"data": "x", "out": "x", "model": "x"})
    if run.student.engine != "transformers":
        raise ConfigError(
            f"{settings.run}: student.engine is {run.student.engine!r}; the loop trains the "
            "student, so it must be a transformers model",
            hint="set student.engine: transformers",
        )
    student = run.student.model
    try:
        load_config(
            EvaluateConfig, settings.evaluate, evaluation_overrides(student, student, settings.out)
        )
    except ConfigError as problem:
        if "is not one of the models" not in problem.message:
            raise
        raise ConfigError(
            problem.message,
            hint=f"in a loop the models are {PARENT} and {ROUND}, and baseline stands for {PARENT}",
        ) from None
    return student


def check_rounds(
    settings: LoopConfig, model: str, switches: Mapping[str, Any], *, ask: bool
) -> Direction:
    """Open everything that a round starting from ``model`` will use; return which way is better.

    Args:
        settings: The loop's.
        model: What the round starts from.
        switches: Replaces settings of the run and evaluation files.
        ask: Whether the servers are asked once, if these files say so.

    Raises:
        InputError: Prompts, constitution or templates cannot be used, no scorecard will name the
            measure, or it says no direction and neither do the settings.
        EngineMissing: A model, extra, key or capability is missing.
        GateRefused: A judge has not shown in its audit what the run demands.
    """
    need_trackers(
        load_config(DpoConfig, settings.train, {"data": "x", "out": "x", "model": model}).report_to
    )
    run_sync(partial(_check_run, settings, model, switches, ask=ask))
    overrides = {**switches, **evaluation_overrides(model, model, settings.out)}
    prompts, measures = run_sync(
        partial(check_evaluation, settings.evaluate, overrides=overrides, ask=ask)
    )
    if prompts < 2:
        raise InputError(
            f"{settings.evaluate}: one prompt gives no interval, so no round could be promoted",
            hint="evaluate on more prompts",
        )
    return choose_direction(settings, measures)


def choose_direction(settings: LoopConfig, measures: Sequence[Measure]) -> Direction:
    """Return which way the measure gets better: as the settings say, else as the measure says.

    Raises:
        ConfigError: It is not among ``measures``, or nothing says a direction.
    """
    measure = next((each for each in measures if each.name == settings.measure), None)
    if measure is None:
        names = [each.name for each in measures]
        judged = settings.measure.startswith(JUDGED_WINS.name) and JUDGED_WINS.name not in names
        why = " (it asks no judge about these prompts)" if judged else ""
        raise ConfigError(
            f"measure: {settings.evaluate} will not measure {settings.measure!r}{why}",
            hint=f"it measures {', '.join(names)}",
        )
    if settings.direction is not None:
        return settings.direction
    if measure.better == "neither":
        raise ConfigError(
            f"direction is missing: neither way of {measure.name} is better by itself",
            hint="say which way promotes: direction: up, or down",
        )
    return "up" if measure.better == "higher" else "down"


async def _check_run(
    settings: LoopConfig, model: str, switches: Mapping[str, Any], *, ask: bool
) -> None:
    overrides = {**switches, "student.model": model, "out": str(settings.out / "run")}
    run = load_config(RunConfig, settings.run, overrides)
    check_batches(run, spread=False)
    async with Session.of(run) as session:
        build_parts(session, run)
        await read_in_thread(partial(check_source, prompt_source(run)))
        if ask:
            await session.preflight.all_ready()
