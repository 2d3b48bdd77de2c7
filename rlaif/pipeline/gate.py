"""The gate before a run: nobody labels who has not shown that they can."""

from collections.abc import Mapping

from rlaif.config import RunConfig
from rlaif.constitution import Constitution
from rlaif.engines import Engine
from rlaif.judging import build_configured_judge
from rlaif.judging.calibration import read_calibration
from rlaif.judging.gate import check_gate
from rlaif.judging.identity import configured_fingerprint
from rlaif.templates import TemplateSet


def gate_notices(
    settings: RunConfig,
    constitution: Constitution,
    templates: TemplateSet,
    engines: Mapping[str, Engine],
) -> tuple[str, ...]:
    """Check the gate, and return what readers must know about judges that label.

    Judges that the gate would refuse and the file overrides; calibrations that were fitted while
    the judge was asked something else than this run's constitution.

    Raises:
        ConfigError: The audit or a calibration cannot be used.
        GateRefused: A judge does not pass and is not overridden.
    """
    fingerprints: dict[str, str] = {}
    elsewhere: list[str] = []
    for config in settings.judges:
        engine = engines[f"judge:{config.name}"]
        judge = build_configured_judge(
            config,
            engine=engine,
            templates=templates,
            orders=settings.judging.orders,
            min_mass=settings.judging.min_mass,
            principles=[principle.id for principle in constitution.judged()],
        )
        fingerprints[config.name] = configured_fingerprint(
            config,
            judge,
            engine=engine,
            orders=settings.judging.orders,
            min_mass=settings.judging.min_mass,
        )
        if config.calibration is not None:
            question = read_calibration(config.calibration).question
            if question != constitution.label:
                elsewhere.append(
                    f"the calibration of the judge {config.name!r} was fitted to its answers to "
                    f"{question}, not to {constitution.label}"
                )
    gate = settings.gate
    if gate is None:
        return tuple(elsewhere)
    overridden = check_gate(
        audit=gate.audit,
        min_accuracy=gate.min_accuracy,
        judges=fingerprints,
        by=gate.by,
        override=gate.override,
    )
    return (*overridden, *elsewhere)
