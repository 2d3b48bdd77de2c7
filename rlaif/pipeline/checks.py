"""Checks of a run file before anything is written: constitution, gate, batches."""

from collections.abc import Sequence

from rlaif.config import RunConfig
from rlaif.config.run import EngineConfig, JudgeConfig
from rlaif.constitution import Constitution, count_asked
from rlaif.errors import ConfigError
from rlaif.judging.build import panel_fingerprint
from rlaif.judging.calibration import check_asked, check_calibration, read_calibration
from rlaif.judging.gate import check_gate
from rlaif.runs.stores import url_of
from rlaif.sessions.session import OpenedJudge


def gate_notices(
    settings: RunConfig, constitution: Constitution, judges: Sequence[OpenedJudge]
) -> tuple[str, ...]:
    """Check the gate, and return what readers must know about judges that label.

    Judges that the gate would refuse and the file overrides; calibrations that were fitted while
    the judge was asked something else than this run's constitution, or to single opinions.

    Raises:
        ConfigError: The audit or a calibration cannot be used.
        GateRefused: A judge does not pass and is not overridden.
    """
    elsewhere = _calibration_notices(settings, constitution, judges)
    gate = settings.gate
    if gate is None:
        return tuple(elsewhere)
    overridden = check_gate(
        audit=gate.audit,
        min_accuracy=gate.min_accuracy,
        judges={judge.config.name: judge.fingerprint for judge in judges},
        by=gate.by,
        override=gate.override,
    )
    return (*overridden, *elsewhere)


def _calibration_notices(
    settings: RunConfig, constitution: Constitution, judges: Sequence[OpenedJudge]
) -> list[str]:
    """Check that calibrations fit the labels of this run, and say on what they rest."""
    panel = settings.judging.calibration
    named = [(f"the judge {one.name!r}", one.calibration) for one in settings.judges]
    notices = []
    for who, path in (*named, ("the panel", panel)):
        if path is None:
            continue
        calibration = read_calibration(path)
        if path is panel:
            asked = count_asked(constitution.judged(), settings.judging.principles.how_many)
            check_asked(calibration, asked, who=who)
            together = panel_fingerprint((one.fingerprint, one.config) for one in judges)
            check_calibration(calibration, judge="panel", fingerprint=together)
        if calibration.of_opinions:
            notices.append(
                f"the calibration of {who} was fitted to single opinions by an earlier version and "
                "is applied to them; the label, their pool, is not calibrated: audit again"
            )
        if calibration.question != constitution.label:
            notices.append(
                f"the calibration of {who} was fitted to its answers to "
                f"{calibration.question}, not to {constitution.label}"
            )
    return notices


def check_judging(settings: RunConfig, constitution: Constitution) -> None:
    """Check that judges and constitution fit each other.

    Raises:
        ConfigError: A principle would have no judge, or something could never have an effect.
    """
    if settings.student.sampling.strategy == "contrast" and not constitution.judged():
        raise ConfigError(
            f"student.sampling.strategy: the constitution {constitution.name!r} has only rule "
            "principles, and contrast samples for and against judged ones",
            hint="use strategy: plain, or a constitution with judged principles",
        )
    if constitution.judged() and not settings.judges and settings.judging.label == "judges":
        raise ConfigError(
            f"judges: the constitution {constitution.name!r} has principles that need a judge, "
            "and none is named",
            hint="name one under judges:, or use a constitution of rule principles only",
        )
    if settings.judges and not constitution.judged():
        raise ConfigError(
            f"judges: the constitution {constitution.name!r} has only rule principles, "
            "so a judge would never be asked",
            hint="remove judges:, rules are always applied",
        )
    canary = settings.judging.canary
    if canary and not any(p.examples and p.weight for p in constitution.judged()):
        raise ConfigError(
            f"judging.canary: no judged principle of {constitution.name!r} has an example to "
            "make known pairs from",
            hint="give principles examples, or remove canary",
        )


def comparison_warnings(settings: RunConfig) -> tuple[str, ...]:
    """Return why, with these settings, no prompt can have two responses to compare."""
    sampling = settings.student.sampling
    if settings.revise.rounds or sampling.strategy == "contrast":
        return ()
    if sampling.n == 1:
        why = "student.sampling.n is 1: there is nothing to compare with the one response"
        hint = "set n to 2 or more"
    elif sampling.temperature == 0:
        why = f"student.sampling.temperature is 0: all {sampling.n} responses will be the same"
        hint = "set a temperature above 0"
    else:
        return ()
    unasked = ", no judge will be asked" if settings.judges else ""
    return (f"{why}, so no pair will be made{unasked}; {hint}, or revise.rounds to 1 or more",)


def check_batches(settings: RunConfig, *, spread: bool) -> None:
    """Check that batches, whose state is a folder of one process, have one.

    Args:
        settings: The run file.
        spread: Whether the work goes to other processes.

    Raises:
        ConfigError: Batches with workers elsewhere, or with a run in an object store.
    """
    critic = settings.revise.critic
    engines: list[EngineConfig | JudgeConfig] = [settings.student, *settings.judges]
    if not isinstance(critic, str):
        engines.append(critic)
    if all(engine.options.get("transport") != "batch" for engine in engines):
        return
    if spread:
        raise ConfigError(
            "transport: batch works in one process: a batch is gathered from all prompts in flight",
            hint="leave --executor ray out (raise concurrency instead), or set transport: fast",
        )
    if url_of(settings.out) is not None:
        raise ConfigError(
            f"out: {settings.out}: transport: batch keeps what was submitted in a folder of this "
            "machine, and another one would pay for it again",
            hint="choose a folder as out",
        )
