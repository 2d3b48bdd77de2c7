"""From a run file to working parts: roles given out, judges built once, the plan written down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlaif.config import RunConfig
from rlaif.config.judge import Rubric
from rlaif.constitution import Constitution, count_asked, load_constitution
from rlaif.engines import Capability, Engine, Sampling, require
from rlaif.errors import ConfigError
from rlaif.generation import ContrastSampler, Reviser, contrast
from rlaif.inputs import PromptSource
from rlaif.judging import ConstructionJudge
from rlaif.judging.calibration import read_calibration
from rlaif.judging.relevance import TEMPLATE as RELEVANCE_TEMPLATE, Relevance
from rlaif.pipeline.checks import check_judging, comparison_warnings, gate_notices
from rlaif.pipeline.item import Choices, PromptWork, Student
from rlaif.records import content_id
from rlaif.runs import Manifest, Run
from rlaif.sessions.budget import check_priced
from rlaif.sessions.engines import judge_role, sampling_of
from rlaif.sessions.preflight import tiny_sample
from rlaif.sessions.session import OpenedJudge, Session
from rlaif.templates import TemplateSet


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run is made of, before it has a folder."""

    settings: RunConfig
    manifest: Manifest
    work: PromptWork
    samples: bool = False
    """Whether responses are sampled; else they are those of another run."""

    warnings: tuple[str, ...] = ()
    """What the user should know before anything is asked."""


def build_parts(session: Session, settings: RunConfig) -> Parts:
    """Open and check everything a run needs; nothing is written.

    Raises:
        InputError: The constitution cannot be used, the judges do not fit it, or a budget in money
            meets an unknown price.
        EngineMissing: A model, extra, key or capability is missing.
        GateRefused: A judge has not shown in its audit what the run demands.
    """
    constitution = load_constitution(settings.constitution)
    check_judging(settings, constitution)
    open_engines(session, settings)
    require(session.engines["student"], Capability.GENERATE, who="the student")
    if settings.revise.rounds > 0:
        require(session.engines["critic"], Capability.GENERATE, who="the critic")
    check_priced(settings.budget, {role: opened.engine for role, opened in session.engines.items()})
    expect_texts(session, settings)
    judges = open_judges(session, settings, constitution)
    overridden = gate_notices(settings, constitution, judges)
    manifest = build_manifest(
        session,
        settings,
        constitution,
        plan=_plan(session, settings, constitution, judges),
        notices=(*_self_judging(session, settings), *overridden),
    )
    work = build_work(session, manifest, settings, constitution, judges)
    return Parts(settings, manifest, work, samples=True, warnings=comparison_warnings(settings))


def open_engines(session: Session, settings: RunConfig) -> None:
    """Open the engines of student, judges and critic, where their roles are not given out yet."""
    session.engine(settings.student, "student")
    for judge in settings.judges:
        session.judge_engine(judge, settings.student)
    if settings.revise.rounds > 0:
        critic = settings.revise.critic
        session.engine(settings.student if isinstance(critic, str) else critic, "critic")


def expect_texts(session: Session, settings: RunConfig) -> None:
    """Let student and critic be tried, before the run, with what they will be asked."""
    student, revise = settings.student, settings.revise
    engine, n = session.engines["student"], student.sampling.n
    if student.sampling.strategy == "contrast":
        n //= 2
    drawn = tiny_sample(engine, sampling_of(student.sampling), n=n, system=student.system)
    session.preflight.expect(engine, drawn)
    if revise.rounds > 0:
        critic = session.engines["critic"]
        written = Sampling(temperature=revise.temperature, max_tokens=revise.max_tokens)
        session.preflight.expect(critic, tiny_sample(critic, written))


def open_judges(
    session: Session, settings: RunConfig, constitution: Constitution
) -> tuple[OpenedJudge, ...]:
    """Build the judges of a run for the judged principles of a constitution."""
    return session.judges(
        settings.asked_judges,
        asked=count_asked(constitution.judged(), settings.judging.principles.how_many),
        orders=settings.judging.orders,
        min_mass=settings.judging.min_mass,
        principles=[principle.id for principle in constitution.judged()],
        student=settings.student,
    )


def run_settings(run: Run) -> RunConfig:
    """The settings a run was made with, from its manifest.

    Raises:
        ConfigError: They were written by another version and can no longer be read.
    """
    try:
        return RunConfig.model_validate(_with_implied(run.manifest.config))
    except ValueError as problem:
        raise ConfigError(
            f"{run.path}: its settings cannot be read by this version: {problem}"
        ) from None


def _with_implied(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were meant when they were written: rubrics were averaged first."""
    judges = [dict(judge) for judge in config.get("judges") or ()]
    for judge in judges:
        if judge.get("method") == "rubric":
            judge["rubric"] = {**Rubric.IMPLIED, **(judge.get("rubric") or {})}
    return {**config, "judges": judges}


def prompt_source(settings: RunConfig) -> PromptSource:
    """Return the prompts of a run file as the reader expects them."""
    return PromptSource(**dict(settings.prompts))


def build_manifest(
    session: Session,
    settings: RunConfig,
    constitution: Constitution,
    *,
    plan: Mapping[str, Any],
    notices: Sequence[str],
) -> Manifest:
    """Write down what is asked, and of whom.

    Args:
        session: Its engines are the run's.
        settings: The whole file.
        constitution: What is judged by.
        plan: What determines the rows.
        notices: What every reader of the run must know.
    """
    return Manifest.build(
        name=settings.name,
        plan=dict(plan),
        config=settings.model_dump(mode="json"),
        constitution_label=constitution.label,
        constitution=constitution.model_dump(mode="json"),
        engines={role: dict(engine.identity) for role, engine in session.engines.items()},
        notices=tuple(notices),
    )


def build_work(
    session: Session,
    manifest: Manifest,
    settings: RunConfig,
    constitution: Constitution,
    judges: Sequence[OpenedJudge],
) -> PromptWork:
    """Build the work on one prompt from what the session holds."""
    student, engines = settings.student, session.engines
    constructed = settings.judging.label == "construction"
    return PromptWork(
        plan_id=manifest.fingerprint,
        seed=settings.seed,
        constitution=constitution,
        student=Student(
            engines["student"], sampling_of(student.sampling), student.sampling.n, student.system
        ),
        judges=((ConstructionJudge(), 1.0),) if constructed else tuple(j.weighted for j in judges),
        choices=_choices(settings),
        relevance=_relevance(settings, judges, session.templates)
        if settings.judging.relevance == "model"
        else None,
        calibration=read_calibration(settings.judging.calibration).transforms
        if settings.judging.calibration is not None
        else (),
        reviser=_reviser(settings, constitution, session.templates, engines["critic"])
        if settings.revise.rounds
        else None,
        contrast=_contrast(settings, constitution, session.templates, engines["student"])
        if student.sampling.strategy == "contrast"
        else None,
    )


def templates_shown(
    session: Session, settings: RunConfig, judges: Sequence[OpenedJudge]
) -> dict[str, str]:
    """Name to fingerprint of the templates that judges show; the others can change meanwhile."""
    shown: dict[str, str] = {}
    for judge in judges:
        shown |= judge.judge.template_fingerprints
    if settings.judging.relevance == "model":
        shown[RELEVANCE_TEMPLATE] = session.templates.get(RELEVANCE_TEMPLATE).fingerprint
    return dict(sorted(shown.items()))


def _self_judging(session: Session, settings: RunConfig) -> tuple[str, ...]:
    return tuple(
        f"the judge {judge.name!r} is the student itself: it grades its own responses"
        for judge in settings.judges
        if session.engines[judge_role(judge.name)].identity == session.engines["student"].identity
    )


def _plan(
    session: Session,
    settings: RunConfig,
    constitution: Constitution,
    judges: Sequence[OpenedJudge],
) -> dict[str, Any]:
    """What determines the rows; where prompts lie, folders and speed are not part of it."""
    engines = session.engines
    shown = templates_shown(session, settings, judges)
    if settings.revise.rounds > 0:
        for name in ("critique/critique", "revise/revise"):
            shown[name] = session.templates.get(name).fingerprint
    if settings.student.sampling.strategy == "contrast":
        shown[contrast.TEMPLATE] = session.templates.get(contrast.TEMPLATE).fingerprint
    judging = settings.judging.planned()
    judging.pop("calibration", None)  # counts by its content
    if settings.judging.relevance != "model" and not any(j.reads_labels for j in settings.judges):
        judging["min_mass"] = 0.0  # it decides nothing, so its default does not matter
    if not isinstance(settings.judging.principles.how_many, str) and _uneven(constitution):
        judging["weights"] = "unbiased"  # the labels of earlier versions were not
    plan: dict[str, Any] = {
        "seed": settings.seed,
        "constitution": {p.id: p.fingerprint for p in constitution.principles},
        "templates": dict(sorted(shown.items())),
        "student": {
            "engine": dict(engines["student"].identity),
            "sampling": settings.student.sampling.model_dump(mode="json"),
            "system": settings.student.system,
        },
        "judges": {judge.config.name: judge.plan() for judge in judges},
        "judging": judging,
        "pairing": settings.pairing.model_dump(mode="json"),
    }
    if settings.judging.calibration is not None:
        text = settings.judging.calibration.read_text("utf-8")
        plan["judging"]["calibration"] = content_id("file", text)
    if filters := settings.prompts.filters():
        plan["prompts"] = filters
    if settings.revise.rounds > 0:
        plan["revise"] = {
            **settings.revise.model_dump(mode="json", exclude={"critic"}),
            "critic": dict(engines["critic"].identity),
        }
    return plan


def _uneven(constitution: Constitution) -> bool:
    """Whether drawn principles weigh unequally."""
    return len({one.weight for one in constitution.judged() if one.weight > 0.0}) > 1


def _choices(settings: RunConfig) -> Choices:
    judging, pairing = settings.judging, settings.pairing
    limit, softened = judging.max_disagreement, judging.on_disagreement == "soften"
    return Choices(
        comparisons=judging.comparisons,
        principles=judging.principles.how_many,
        strategy=pairing.strategy,
        min_margin=pairing.min_margin,
        max_length_ratio=judging.max_length_ratio,
        max_disagreement=None if softened else limit,
        soften_above=limit if softened else None,
        length_tiers=pairing.length_tiers,
        refit=judging.fit is not None,
        canary_share=judging.canary.share if judging.canary else 0.0,
    )


def _relevance(
    settings: RunConfig, judges: Sequence[OpenedJudge], templates: TemplateSet
) -> Relevance:
    """The first judge is asked; with several, what speaks must be the same for all of them."""
    first = judges[0]
    return Relevance.build(
        name=first.config.name,
        engine=first.engine,
        templates=templates,
        min_mass=settings.judging.min_mass,
    )


def _contrast(
    settings: RunConfig, constitution: Constitution, templates: TemplateSet, engine: Engine
) -> ContrastSampler:
    return ContrastSampler(
        engine=engine,
        template=templates.get(contrast.TEMPLATE),
        principles=constitution.judged(),
        sampling=sampling_of(settings.student.sampling),
        seed=settings.seed,
        system=settings.student.system,
    )


def _reviser(
    settings: RunConfig, constitution: Constitution, templates: TemplateSet, engine: Engine
) -> Reviser:
    revise = settings.revise
    return Reviser(
        engine=engine,
        templates=templates,
        principles=constitution.judged(),
        rounds=revise.rounds,
        sampling=Sampling(temperature=revise.temperature, max_tokens=revise.max_tokens),
        seed=settings.seed,
        only_if_found=revise.only_if_found,
    )
