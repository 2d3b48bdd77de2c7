"""From an evaluation file to working parts: prompts read, engines opened once, judges built."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rlaif.config.evaluate import EvaluateConfig
from rlaif.constitution import Constitution, load_constitution
from rlaif.engines import Engine
from rlaif.errors import ConfigError
from rlaif.evaluation.judged import Panel
from rlaif.evaluation.plan import Plan
from rlaif.inputs import PromptSource, read_prompts
from rlaif.records import Failure, Prompt
from rlaif.sessions.engines import sampling_of
from rlaif.sessions.session import Session


@dataclass(frozen=True, slots=True)
class Parts:
    """What an evaluation is made of, before it has a folder."""

    plan: Plan
    prompts: tuple[Prompt, ...]
    models: Mapping[str, Engine]
    notices: tuple[str, ...]
    """What the settings alone give a reader to know."""


def build_parts(session: Session, settings: EvaluateConfig) -> Parts:
    """Read and open everything an evaluation needs; nothing is written.

    Raises:
        InputError: Constitution or prompts cannot be used, or the judges have nothing to judge.
        EngineMissing: A model, extra, key or capability is missing.
    """
    constitution = load_constitution(settings.constitution)
    if settings.judges and not constitution.judged():
        raise ConfigError(
            f"judges: the constitution {constitution.name!r} has only rule principles, "
            "so a judge would never be asked",
            hint="remove judges:, rules are always measured",
        )
    read = list(read_prompts(PromptSource(**dict(settings.prompts))))
    models = {model.name: session.engine(model, model.name) for model in settings.models}
    plan = Plan(
        constitution=constitution,
        baseline=settings.baseline,
        sampling=sampling_of(settings.sampling),
        n=settings.sampling.n,
        seed=settings.seed,
        system=settings.system,
        likelihood_under=settings.likelihood_model,
        panel=_panel(session, settings, constitution) if settings.judges else None,
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
        orders=judging.orders,
        min_mass=judging.min_mass,
        principles=[principle.id for principle in constitution.judged()],
    )
    return Panel(
        judges=tuple(judge.weighted for judge in judges),
        principles=judging.principles.how_many,
        identity={
            "judging": judging.model_dump(mode="json"),
            "judges": {
                judge.config.name: {
                    **judge.plan(),
                    "templates": dict(judge.judge.template_fingerprints),
                }
                for judge in judges
            },
        },
    )


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
