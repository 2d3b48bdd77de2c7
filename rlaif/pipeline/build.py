"""From settings to working parts: engines opened once, judges built, the plan written down."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rlaif.config import RunConfig
from rlaif.config.run import JudgeConfig, KConfig
from rlaif.constitution import Constitution, HowMany, load_constitution
from rlaif.engines import Capability, Engine, Sampling, require
from rlaif.generation import ContrastSampler, Reviser, contrast
from rlaif.inputs import PromptSource
from rlaif.judging import ConstructionJudge, Judge, build_configured_judge
from rlaif.pipeline.checks import check_judging, gate_notices
from rlaif.pipeline.item import Choices, Student, Work
from rlaif.runs import Ledger, Manifest
from rlaif.sessions.budget import Budget, check_priced
from rlaif.sessions.engines import open_engines, sampling_of
from rlaif.sessions.recorded import RecordedEngine
from rlaif.templates import TemplateSet


@dataclass(slots=True)
class Parts:
    """What a run is made of, before it has a ledger. Close with `aclose`."""

    settings: RunConfig
    constitution: Constitution
    templates: TemplateSet
    source: PromptSource
    engines: dict[str, Engine]
    """Role to engine; roles that name the same model share one."""

    manifest: Manifest
    recorded: list[RecordedEngine] = field(default_factory=list)

    def work(self, ledger: Ledger, budget: Budget | None = None) -> Work:
        """Put every engine behind the ledger and the budget; build the work on one prompt."""
        self.recorded = []

        def record(role: str, engine: Engine) -> Engine:
            self.recorded.append(RecordedEngine(engine, ledger, label=role, budget=budget))
            return self.recorded[-1]

        return self.work_with(record)

    def work_with(self, wrap: Callable[[str, Engine], Engine]) -> Work:
        """Build the work on one prompt with every engine wrapped once.

        ``wrap`` gets the engine and the role it is known by: the student's, or the names of all
        judges that share it.
        """
        shared: dict[int, list[str]] = {}
        for role, engine in self.engines.items():
            shared.setdefault(id(engine), []).append(role)
        wrapped: dict[int, Engine] = {}
        for engine in self.engines.values():
            if id(engine) not in wrapped:
                roles = shared[id(engine)]
                known = roles[0] if roles[0] == "student" else "+".join(roles)
                wrapped[id(engine)] = wrap(known, engine)
        return _work(self, {role: wrapped[id(one)] for role, one in self.engines.items()})

    async def aclose(self) -> None:
        """Close every engine once."""
        for engine in {id(engine): engine for engine in self.engines.values()}.values():
            await engine.aclose()


def build_parts(settings: RunConfig) -> Parts:
    """Open and check everything a run needs; nothing is written.

    Raises:
        InputError: Constitution or templates cannot be used, the judges do not fit it, or a budget
            in money meets an unknown price.
        EngineMissing: A model, extra, key or capability is missing.
        GateRefused: A judge has not shown in its audit what the run demands.
    """
    constitution = load_constitution(settings.constitution)
    check_judging(settings, constitution)
    templates = TemplateSet.open(settings.templates)
    templates.check_all()
    engines = open_engines(settings)
    _check_capabilities(settings, engines)
    check_priced(settings.budget, engines)
    shown = _templates_shown(settings, constitution, templates, engines)
    passed = gate_notices(settings, constitution, templates, engines)
    return Parts(
        settings=settings,
        constitution=constitution,
        templates=templates,
        source=prompt_source(settings),
        engines=engines,
        manifest=_manifest(settings, constitution, shown, engines, passed),
    )


def prompt_source(settings: RunConfig) -> PromptSource:
    """The prompts of a run file as the reader wants them."""
    return PromptSource(**dict(settings.prompts))


def _how_many(settings: RunConfig) -> HowMany:
    choose = settings.judging.principles.choose
    return choose.k if isinstance(choose, KConfig) else choose


def _notices(settings: RunConfig, engines: Mapping[str, Engine]) -> tuple[str, ...]:
    return tuple(
        f"the judge {judge.name!r} is the student itself: it grades its own responses"
        for judge in settings.judges
        if engines[f"judge:{judge.name}"].identity == engines["student"].identity
    )


def _plan(
    settings: RunConfig,
    constitution: Constitution,
    templates: Mapping[str, str],
    engines: Mapping[str, Engine],
) -> dict[str, Any]:
    """What determines the rows; where prompts lie, folders and speed are not part of it."""
    judges = {
        judge.name: {
            "engine": dict(engines[f"judge:{judge.name}"].identity),
            **judge.plan(),
        }
        for judge in settings.judges
    }
    plan: dict[str, Any] = {
        "seed": settings.seed,
        "constitution": {p.id: p.fingerprint for p in constitution.principles},
        "templates": dict(templates),
        "student": {
            "engine": dict(engines["student"].identity),
            "sampling": settings.student.sampling.model_dump(mode="json"),
            "system": settings.student.system,
        },
        "judges": judges,
        "judging": settings.judging.model_dump(mode="json"),
        "pairing": settings.pairing.model_dump(mode="json"),
    }
    if filters := settings.prompts.filters():
        plan["prompts"] = filters
    if settings.revise.rounds > 0:
        plan["revise"] = {
            **settings.revise.model_dump(mode="json", exclude={"critic"}),
            "critic": dict(engines["critic"].identity),
        }
    return plan


def _manifest(
    settings: RunConfig,
    constitution: Constitution,
    templates: Mapping[str, str],
    engines: Mapping[str, Engine],
    passed: tuple[str, ...] = (),
) -> Manifest:
    return Manifest.build(
        name=settings.name,
        plan=_plan(settings, constitution, templates, engines),
        config=settings.model_dump(mode="json"),
        constitution_label=constitution.label,
        constitution=constitution.model_dump(mode="json"),
        engines={role: dict(engine.identity) for role, engine in engines.items()},
        notices=(*_notices(settings, engines), *passed),
    )


def _work(parts: Parts, roles: Mapping[str, Engine]) -> Work:
    settings, constitution = parts.settings, parts.constitution
    student = settings.student
    return Work(
        plan_id=parts.manifest.fingerprint,
        seed=settings.seed,
        constitution=constitution,
        student=Student(
            roles["student"], sampling_of(student.sampling), student.sampling.n, student.system
        ),
        judges=_judges(parts, roles),
        choices=_choices(settings),
        reviser=_reviser(parts, roles) if settings.revise.rounds else None,
        contrast=_contrast(parts, roles) if student.sampling.strategy == "contrast" else None,
    )


def _choices(settings: RunConfig) -> Choices:
    judging, pairing = settings.judging, settings.pairing
    limit, softened = judging.max_disagreement, judging.on_disagreement == "soften"
    return Choices(
        comparisons=judging.comparisons,
        principles=_how_many(settings),
        strategy=pairing.strategy,
        min_margin=pairing.min_margin,
        max_length_ratio=judging.max_length_ratio,
        max_disagreement=None if softened else limit,
        soften_above=limit if softened else None,
        length_tiers=pairing.length_tiers,
        refit=judging.fit is not None,
        canary_share=judging.canary.share if judging.canary else 0.0,
    )


def _judges(parts: Parts, roles: Mapping[str, Engine]) -> tuple[tuple[Judge, float], ...]:
    settings = parts.settings
    if settings.judging.label == "construction":
        return ((ConstructionJudge(), 1.0),)
    built = []
    for judge in settings.judges:
        engine = roles[f"judge:{judge.name}"]
        made = _judge(judge, settings, parts.constitution, parts.templates, engine)
        built.append((made, judge.weight))
    return tuple(built)


def _contrast(parts: Parts, roles: Mapping[str, Engine]) -> ContrastSampler:
    student = parts.settings.student
    return ContrastSampler(
        engine=roles["student"],
        template=parts.templates.get(contrast.TEMPLATE),
        principles=parts.constitution.judged(),
        sampling=sampling_of(student.sampling),
        seed=parts.settings.seed,
        system=student.system,
    )


def _reviser(parts: Parts, roles: Mapping[str, Engine]) -> Reviser:
    revise = parts.settings.revise
    return Reviser(
        engine=roles["critic"],
        templates=parts.templates,
        principles=parts.constitution.judged(),
        rounds=revise.rounds,
        sampling=Sampling(temperature=revise.temperature, max_tokens=revise.max_tokens),
        seed=parts.settings.seed,
        only_if_found=revise.only_if_found,
    )


def _judge(
    judge: JudgeConfig,
    settings: RunConfig,
    constitution: Constitution,
    templates: TemplateSet,
    engine: Engine,
) -> Judge:
    return build_configured_judge(
        judge,
        engine=engine,
        templates=templates,
        orders=settings.judging.orders,
        min_mass=settings.judging.min_mass,
        principles=[principle.id for principle in constitution.judged()],
    )


def _check_capabilities(settings: RunConfig, engines: Mapping[str, Engine]) -> None:
    """Find out before anything starts whether student and critic can generate."""
    require(engines["student"], Capability.GENERATE, who="the student")
    if settings.revise.rounds > 0:
        require(engines["critic"], Capability.GENERATE, who="the critic")


def _templates_shown(
    settings: RunConfig,
    constitution: Constitution,
    templates: TemplateSet,
    engines: Mapping[str, Engine],
) -> dict[str, str]:
    """Name to fingerprint of the templates this run shows; the others can change meanwhile."""
    shown: dict[str, str] = {}
    for judge in settings.judges:
        engine = engines[f"judge:{judge.name}"]
        shown |= _judge(judge, settings, constitution, templates, engine).template_fingerprints
    if settings.revise.rounds > 0:
        for name in ("critique/critique", "revise/revise"):
            shown[name] = templates.get(name).fingerprint
    if settings.student.sampling.strategy == "contrast":
        shown[contrast.TEMPLATE] = templates.get(contrast.TEMPLATE).fingerprint
    return dict(sorted(shown.items()))
