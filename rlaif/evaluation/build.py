"""From an evaluation file to working parts: prompts read, engines opened once, judges built."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlaif.config.evaluate import EvaluateConfig
from rlaif.config.run import KConfig
from rlaif.constitution import Constitution, load_constitution
from rlaif.engines import Engine
from rlaif.errors import ConfigError
from rlaif.evaluation.judged import Panel
from rlaif.evaluation.plan import Plan
from rlaif.inputs import PromptSource, read_prompts
from rlaif.judging import build_configured_judge
from rlaif.records import Failure, Prompt
from rlaif.runs import Ledger
from rlaif.sessions.engines import open_once, sampling_of
from rlaif.sessions.recorded import RecordedEngine
from rlaif.templates import TemplateSet


@dataclass(frozen=True, slots=True)
class Parts:
    """What an evaluation is made of. Close with `aclose`."""

    settings: EvaluateConfig
    constitution: Constitution
    templates: TemplateSet
    prompts: tuple[Prompt, ...]
    unreadable: tuple[Failure, ...]
    """Records of the prompt file that are no prompts."""

    models: Mapping[str, Engine]
    judges: Mapping[str, Engine]
    """Judge name to engine."""

    def plan(self) -> Plan:
        """The plan, with judges that ask the engines as they are here."""
        settings = self.settings
        return Plan(
            constitution=self.constitution,
            baseline=settings.baseline,
            sampling=sampling_of(settings.sampling),
            n=settings.sampling.n,
            seed=settings.seed,
            system=settings.system,
            likelihood_under=settings.likelihood_model,
            panel=self._panel() if self.judges else None,
            concurrency=settings.concurrency,
        )

    def recorded(self, ledger: Ledger) -> "Parts":
        """Return the same parts with every engine behind the ledger."""
        recorded: dict[int, RecordedEngine] = {}

        def behind(label: str, engine: Engine) -> RecordedEngine:
            if id(engine) not in recorded:
                recorded[id(engine)] = RecordedEngine(engine, ledger, label=label)
            return recorded[id(engine)]

        return Parts(
            self.settings,
            self.constitution,
            self.templates,
            self.prompts,
            self.unreadable,
            {name: behind(name, engine) for name, engine in self.models.items()},
            {name: behind(f"judge:{name}", engine) for name, engine in self.judges.items()},
        )

    def notices(self) -> tuple[str, ...]:
        """What the settings alone give a reader to know."""
        notices = [
            f"the judge {judge!r} is the model {model!r} itself: it judges its own responses"
            for judge, judging in self.judges.items()
            for model, engine in self.models.items()
            if judging.identity == engine.identity
        ]
        if self.unreadable:
            kinds = Counter(failure.kind for failure in self.unreadable)
            why = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
            notices.append(f"{len(self.unreadable)} records of the prompts were left out ({why})")
        return tuple(notices)

    def settle(self) -> None:
        """Make every reply so far durable, when all were asked for and used."""
        for engine in (*self.models.values(), *self.judges.values()):
            if isinstance(engine, RecordedEngine):
                engine.settle()

    async def aclose(self) -> None:
        """Close every engine once."""
        engines = [*self.models.values(), *self.judges.values()]
        for engine in {id(engine): engine for engine in engines}.values():
            await engine.aclose()

    def _panel(self) -> Panel:
        judging = self.settings.judging
        choose = judging.principles.choose
        judges = []
        identity: dict[str, Any] = {"judging": judging.model_dump(mode="json"), "judges": {}}
        for config in self.settings.judges:
            judge = build_configured_judge(
                config,
                engine=self.judges[config.name],
                templates=self.templates,
                orders=judging.orders,
                min_mass=judging.min_mass,
                principles=[principle.id for principle in self.constitution.judged()],
            )
            judges.append((judge, config.weight))
            identity["judges"][config.name] = {
                "engine": dict(self.judges[config.name].identity),
                "templates": dict(judge.template_fingerprints),
                **config.plan(),
            }
        return Panel(
            judges=tuple(judges),
            principles=choose.k if isinstance(choose, KConfig) else choose,
            identity=identity,
        )


async def open_parts(settings: EvaluateConfig) -> Parts:
    """Read and open everything an evaluation needs; nothing is written.

    Raises:
        InputError: Constitution, templates or prompts cannot be used, or the judges have nothing
            to judge.
        EngineMissing: A model, extra, key or capability is missing.
    """
    constitution = load_constitution(settings.constitution)
    if settings.judges and not constitution.judged():
        raise ConfigError(
            f"judges: the constitution {constitution.name!r} has only rule principles, "
            "so a judge would never be asked",
            hint="remove judges:, rules are always measured",
        )
    templates = TemplateSet.open(settings.templates)
    templates.check_all()
    read = list(read_prompts(PromptSource(**dict(settings.prompts))))
    opened: dict[str, Engine] = {}
    try:
        return Parts(
            settings,
            constitution,
            templates,
            prompts=tuple(item for item in read if isinstance(item, Prompt)),
            unreadable=tuple(item for item in read if isinstance(item, Failure)),
            models={model.name: open_once(model, opened) for model in settings.models},
            judges={judge.name: open_once(judge, opened) for judge in settings.judges},
        )
    except BaseException:
        for engine in opened.values():
            await engine.aclose()
        raise
