"""Evaluate: from an evaluation file to a scorecard on disk; repeating it costs nothing."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlaif.config import load_config
from rlaif.config.evaluate import EvaluateConfig
from rlaif.constitution import Constitution, count_asked, load_constitution
from rlaif.engines import Engine
from rlaif.errors import ConfigError, RecordError, RunMismatch
from rlaif.evaluation.catalogue import list_measures
from rlaif.evaluation.compare import Evaluation, check_models, evaluate_models
from rlaif.evaluation.differences import explain_power
from rlaif.evaluation.judged import Panel
from rlaif.evaluation.judged_refusals import RefusalJudge
from rlaif.evaluation.measure import Measure
from rlaif.evaluation.plan import Plan
from rlaif.evaluation.render import RESULTS, SCORECARD, write_results
from rlaif.evaluation.scorecard import Scorecard, read_scorecard
from rlaif.inputs import PromptSource, read_prompts
from rlaif.pipeline.achieved import RETRY, check_samples, check_shares, check_verdicts
from rlaif.pipeline.estimate import SAMPLE, Estimate, count_calls, scale_up
from rlaif.records import Failure, Prompt
from rlaif.runs.messages import MessageCounter
from rlaif.sessions.concurrent import run_sync
from rlaif.sessions.engines import sampling_of
from rlaif.sessions.preflight import tiny_sample, tiny_score
from rlaif.sessions.probe import PROMPT
from rlaif.sessions.session import Session
from rlaif.sessions.shown import OnProgress


@dataclass(frozen=True, slots=True)
class Parts:
    """What an evaluation is made of, before it has a folder."""

    plan: Plan
    prompts: tuple[Prompt, ...]
    models: Mapping[str, Engine]
    notices: tuple[str, ...]
    """Notes for readers that follow from the settings alone."""


def evaluate(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    again: bool = False,
    on_progress: OnProgress | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Scorecard:
    """Sample, measure and compare the models of an evaluation file; write the results.

    Works in scripts and in notebooks (where an event loop is already running). Every model call is
    kept in the ledger of ``out``, so an interrupted evaluation resumes where it stopped, and a
    finished one is only read.

    Args:
        config: The evaluation file, or the same as a mapping.
        overrides: Dotted keys to values, such as ``{"prompts.limit": 50}``.
        again: Measure again and replace what ``out`` holds, also when it was another evaluation.
            Replies that the ledger holds are not asked for again.
        on_progress: Called as work is finished.
        on_note: Called before the first response is drawn, with what so many prompts can show.

    Raises:
        InputError: Settings, constitution, templates or prompts cannot be used; nothing started.
        RunMismatch: ``out`` holds the scorecard of another evaluation.
        EngineUnavailable: A model or server is down; what was done is kept.
        TooManyFailed: More than ``max_failed_share`` of the samples of a model, or of the calls of
            a judge, failed; no scorecard is written. Repeating it asks only what failed.
        KeyboardInterrupt: Stopped by a signal; what was done is kept.
    """
    return run_sync(
        lambda: aevaluate(
            config, overrides=overrides, again=again, on_progress=on_progress, on_note=on_note
        )
    )


async def aevaluate(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    again: bool = False,
    on_progress: OnProgress | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Scorecard:
    """The same as `evaluate`, to be awaited."""
    settings = load_config(EvaluateConfig, config, overrides)
    async with Session.of(settings) as session:
        parts = build_parts(session, settings)
        done = None if again else _finished(settings.out, parts)
        if done is not None:
            return done
        await session.preflight.before(settings.out, settings.reuse)
        session.open(settings.out, reuse=settings.reuse, results=RESULTS)
        if on_note is not None and len(parts.models) > 1 and parts.prompts:
            on_note(explain_power(len(parts.prompts)))
        evaluation = await evaluate_models(
            parts.plan, parts.prompts, parts.models, name=settings.name, on_progress=on_progress
        )
        card = evaluation.scorecard
        if not card.nothing:
            _check_failed(evaluation, settings.max_failed_share)
        card = replace(card, notices=(*parts.notices, *card.notices))
        write_results(replace(evaluation, scorecard=card), settings.out)
        session.settle()
        return card


async def estimate_evaluation(session: Session, parts: Parts) -> Estimate:
    """Say what an evaluation will ask, from a few prompts; the session asks nothing any more."""
    counters = count_calls(session)
    sample = parts.prompts[:SAMPLE]
    await evaluate_models(parts.plan, sample, parts.models)
    total = len(parts.prompts)
    return Estimate(total, len(sample), scale_up(counters, total / max(len(sample), 1)))


async def check_evaluation(
    config: str | Path | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | None = None,
    ask: bool = False,
) -> tuple[int, tuple[Measure, ...]]:
    """Check an evaluation as `evaluate` does, writing nothing.

    Args:
        config: As for `evaluate`.
        overrides: Dotted keys to values.
        ask: Whether the servers are asked once, if the settings say so.

    Returns:
        The number of prompts, and the measures that the scorecard will name.

    Raises:
        InputError, EngineMissing: As for `evaluate`.
    """
    settings = load_config(EvaluateConfig, config, overrides)
    async with Session.of(settings) as session:
        parts = build_parts(session, settings)
        if ask:
            await session.preflight.all_ready()
        prompts = check_models(parts.plan, parts.prompts, parts.models)
        return len(prompts), list_measures(parts.plan, prompts, models=len(parts.models))


def _check_failed(evaluation: Evaluation, most: float) -> None:
    """Check the share of failed samples of each model, and of failed calls of each judge."""
    for model, groups in evaluation.groups.items():
        made = sum(len(group.responses) for group in groups)
        check_samples(model, evaluation.failures[model], made, most)
    judged = (*evaluation.judged.values(), *evaluation.between.values())
    matches = (match for each in judged for match in each)
    check_verdicts((match.judgment for match in matches if match.judgment), most)
    counter = MessageCounter(f for one in evaluation.refusals.values() for f in one.failures)
    read = sum(one.read for one in evaluation.refusals.values())
    shares = counter.shares(dict.fromkeys(counter.roles, read))
    check_shares(shares, tuple(counter.most_common()), most, retry=RETRY)


def _finished(out: Path, parts: Parts) -> Scorecard | None:
    """Return the scorecard of this very evaluation; None without one, or if it measured nothing."""
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
    return None if card.nothing else card


def build_parts(session: Session, settings: EvaluateConfig) -> Parts:
    """Read and open everything an evaluation needs; nothing is written.

    Raises:
        InputError: Constitution or prompts cannot be used, or the judges have nothing to judge.
        EngineMissing: A model, extra, key or capability is missing.
    """
    constitution = load_constitution(settings.constitution)
    spoken_for = settings.refusals.judge if settings.refusals else None
    if not constitution.judged() and any(one.name != spoken_for for one in settings.judges):
        raise ConfigError(
            f"judges: the constitution {constitution.name!r} has only rule principles, "
            "so a judge would never be asked",
            hint="remove judges:, rules are always measured",
        )
    read = list(read_prompts(PromptSource(**dict(settings.prompts))))
    models = {model.name: session.engine(model, model.name) for model in settings.models}
    sampling = sampling_of(settings.sampling)
    for engine in models.values():
        drawn = tiny_sample(engine, sampling, n=settings.sampling.n, system=settings.system)
        session.preflight.expect(engine, drawn)
    if settings.likelihood_model is not None:
        session.preflight.expect(models[settings.likelihood_model], tiny_score())
    plan = Plan(
        constitution=constitution,
        baseline=settings.baseline,
        sampling=sampling,
        n=settings.sampling.n,
        seed=settings.seed,
        system=settings.system,
        likelihood_under=settings.likelihood_model,
        panel=_panel(session, settings, constitution)
        if settings.judges and constitution.judged()
        else None,
        all_pairs=settings.judging.compare == "all",
        correction=settings.correction,
        refusal_judge=_refusal_judge(session, settings),
        concurrency=settings.concurrency,
    )
    return Parts(
        plan,
        prompts=tuple(item for item in read if isinstance(item, Prompt)),
        models=models,
        notices=(
            *_self_judging(session, settings),
            *_left_out([item for item in read if isinstance(item, Failure)]),
        ),
    )


def _panel(session: Session, settings: EvaluateConfig, constitution: Constitution) -> Panel:
    judging = settings.judging
    judges = session.judges(
        settings.judges,
        asked=count_asked(constitution.judged(), judging.principles.how_many),
        orders=judging.orders,
        min_mass=judging.min_mass,
        principles=[principle.id for principle in constitution.judged()],
    )
    return Panel(
        judges=tuple(judge.weighted for judge in judges),
        principles=judging.principles.how_many,
        identity={
            "judging": judging.model_dump(mode="json", exclude={"compare"}),
            "judges": {
                judge.config.name: {
                    **judge.plan(),
                    "templates": dict(judge.judge.template_fingerprints),
                }
                for judge in judges
            },
        },
    )


def _refusal_judge(session: Session, settings: EvaluateConfig) -> RefusalJudge | None:
    wanted = settings.refusals
    config = next((one for one in settings.judges if wanted and one.name == wanted.judge), None)
    if wanted is None or config is None:
        return None
    engine = session.judge_engine(config)
    judge = RefusalJudge.build(
        name=config.name, engine=engine, templates=session.templates, min_mass=wanted.min_mass
    )
    session.preflight.expect(engine, [judge.request(PROMPT, "Paris.")])
    return judge


def _self_judging(session: Session, settings: EvaluateConfig) -> list[str]:
    return [
        f"the judge {judge.name!r} is the model {model.name!r} itself: it judges its own responses"
        for judge in settings.judges
        for model in settings.models
        if session.judge_engine(judge).identity == session.engines[model.name].identity
    ]


def _left_out(unreadable: list[Failure]) -> list[str]:
    if not unreadable:
        return []
    kinds = Counter(failure.kind for failure in unreadable)
    why = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    return [f"{len(unreadable)} records of the prompts were left out ({why})"]
