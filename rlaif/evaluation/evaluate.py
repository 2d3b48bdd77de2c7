"""Evaluate: from an evaluation file to a scorecard on disk; repeating it costs nothing."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlaif.config import load_config
from rlaif.config.evaluate import EvaluateConfig
from rlaif.errors import RecordError, RunMismatch
from rlaif.evaluation.build import Parts, build_parts
from rlaif.evaluation.compare import evaluate_models
from rlaif.evaluation.results import RESULTS, SCORECARD, write_results
from rlaif.evaluation.scorecard import Scorecard, read_scorecard
from rlaif.sessions.concurrent import run_sync
from rlaif.sessions.session import Session
from rlaif.sessions.shown import OnProgress


def evaluate(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    again: bool = False,
    on_progress: OnProgress | None = None,
) -> Scorecard:
    """Sample, measure and compare the models of an evaluation file; write what was found.

    Works in scripts and in notebooks (where an event loop is already running). Every model call is
    kept in the ledger of ``out``, so an interrupted evaluation resumes where it stopped, and a
    finished one is only read.

    Args:
        config: The evaluation file, or the same as a mapping.
        overrides: Dotted keys to values, such as ``{"prompts.limit": 50}``.
        again: Measure again and replace what ``out`` holds, also when it was another evaluation.
            Replies that the ledger holds are not asked for again.
        on_progress: Called as work is finished.

    Raises:
        InputError: Settings, constitution, templates or prompts cannot be used; nothing started.
        RunMismatch: ``out`` holds the scorecard of another evaluation.
        EngineUnavailable: A model or server is down; what was done is kept.
        KeyboardInterrupt: Stopped by a signal; what was done is kept.
    """
    return run_sync(
        lambda: aevaluate(config, overrides=overrides, again=again, on_progress=on_progress)
    )


async def aevaluate(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    again: bool = False,
    on_progress: OnProgress | None = None,
) -> Scorecard:
    """The same as `evaluate`, to be awaited."""
    settings = load_config(EvaluateConfig, config, overrides)
    async with Session(settings.templates, give_up_after=settings.give_up_after) as session:
        parts = build_parts(session, settings)
        done = None if again else _finished(settings.out, parts)
        if done is not None:
            return done
        session.open(settings.out, reuse=settings.reuse, results=RESULTS)
        evaluation = await evaluate_models(
            parts.plan, parts.prompts, parts.models, name=settings.name, on_progress=on_progress
        )
        card = evaluation.scorecard
        card = replace(card, notices=(*parts.notices, *card.notices))
        write_results(replace(evaluation, scorecard=card), settings.out)
        session.settle()
        return card


def _finished(out: Path, parts: Parts) -> Scorecard | None:
    """Return the scorecard that is there already, when it is of this very evaluation."""
    path = out / SCORECARD
    if not path.exists():
        return None
    try:
        card = read_scorecard(path)
    except RecordError as problem:
        raise RunMismatch(
            problem.message, hint="choose another out, or replace it: --again"
        ) from None
    if card.fingerprint != parts.plan.fingerprint(parts.prompts, parts.models):
        raise RunMismatch(
            f"{out} holds another evaluation ({card.name}: other models, prompts or settings)",
            hint="choose another out, or replace it: --again",
        )
    return card
