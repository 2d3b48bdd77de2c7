"""The judges of an audit: each judge with the fingerprint it is known by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlaif.audit.question import Question
from rlaif.audit.repeat import ReseededEngine
from rlaif.config.judge import JudgeConfig
from rlaif.engines import Engine
from rlaif.judging import Judge, build_configured_judge
from rlaif.judging.identity import configured_fingerprint
from rlaif.pipeline.recorded import RecordedEngine
from rlaif.runs import Ledger
from rlaif.templates import TemplateSet


@dataclass(frozen=True, slots=True)
class Audited:
    """One judge as it is audited."""

    judge: Judge
    weight: float
    engine: ReseededEngine
    fingerprint: str
    calibrated: bool = False

    @property
    def name(self) -> str:
        """The judge's."""
        return self.judge.name


def build_judges(
    configs: Sequence[JudgeConfig],
    engines: Mapping[str, Engine],
    *,
    ledger: Ledger,
    templates: TemplateSet,
    question: Question,
    orders: str,
    min_mass: float,
) -> tuple[Audited, ...]:
    """Put every engine behind the ledger and build the judges.

    Raises:
        InputError: A template or a setting cannot be used.
        EngineMissing: An engine cannot do what its judge needs.
    """
    recorded: dict[int, RecordedEngine] = {}
    audited = []
    for config in configs:
        engine = engines[config.name]
        if id(engine) not in recorded:
            names = [f"judge:{other.name}" for other in configs if engines[other.name] is engine]
            recorded[id(engine)] = RecordedEngine(engine, ledger, label="+".join(names))
        asked = ReseededEngine(recorded[id(engine)])
        judge = build_configured_judge(
            config,
            engine=asked,
            templates=templates,
            orders="one" if orders == "one" else "both",
            min_mass=min_mass,
            principles=question.ids(),
        )
        audited.append(
            Audited(
                judge,
                config.weight,
                asked,
                configured_fingerprint(
                    config, judge, engine=engine, orders=orders, min_mass=min_mass
                ),
                calibrated=config.calibration is not None,
            )
        )
    return tuple(audited)
