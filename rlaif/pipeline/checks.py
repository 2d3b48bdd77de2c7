"""Checks of a run file against its constitution, before anything is opened."""

from rlaif.config import RunConfig
from rlaif.constitution import Constitution
from rlaif.errors import ConfigError


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
            f"judging.canary: no judged principle of {constitution.name!r} has an example, "
            "so there is no known pair",
            hint="give principles examples, or remove canary",
        )
