"""The question of an audit: the principles that judges are asked about."""

from collections.abc import Sequence
from dataclasses import dataclass

from rlaif.constitution import (
    Constitution,
    HowMany,
    Principle,
    choose_principles,
    count_asked,
    load_constitution,
)
from rlaif.errors import ConfigError
from rlaif.records import Prompt

GENERAL = Principle(
    id="better-response",
    statement="Give the person the response that is best overall: it does what was asked, is "
    "true, and does no harm.",
    comparison="Which response is better overall: does what was asked, is true, does no harm?",
    opposite="Give the person a bad response: it misses what was asked, is false, or does harm.",
)
"""What is asked where neither a constitution nor a principle is given: gold sets mix all kinds."""


@dataclass(frozen=True, slots=True)
class Question:
    """Judged principles, and how many of them are asked about each pair."""

    label: str
    """``name@fingerprint``."""

    fingerprint: str
    candidates: tuple[Principle, ...]
    how_many: HowMany = "all"
    seed: int = 0

    def drawn(self, prompt: Prompt, subject: str) -> tuple[Principle, ...]:
        """Return the principles that are asked about one comparison."""
        return choose_principles(
            [p for p in self.candidates if p.applies(prompt.tags)],
            how_many=self.how_many,
            seed=self.seed,
            subject=subject,
        )

    @property
    def asked(self) -> int:
        """How many principles stand behind a label."""
        return count_asked(self.candidates, self.how_many)

    def ids(self) -> Sequence[str]:
        """Return the ids of the candidates."""
        return [principle.id for principle in self.candidates]


def build_question(
    *,
    constitution: str | None = None,
    principle: str | None = None,
    how_many: HowMany = "all",
    seed: int = 0,
) -> Question:
    """Make the question from a constitution, from one statement, or the general one.

    Principles that are only for some prompts (``applies_to``) are asked only where a prompt has
    the tag, and gold prompts have none: they are left out.

    Raises:
        ConstitutionError: The constitution cannot be used.
        ConfigError: It has no judged principle for prompts without tags.
    """
    if constitution is None:
        if principle is not None:
            given = Principle(id="given", statement=principle)
            loaded = Constitution(name="principle", version="1", principles=(given,))
        else:
            loaded = Constitution(name="general", version="1", principles=(GENERAL,))
    else:
        loaded = load_constitution(constitution)
    candidates = tuple(p for p in loaded.judged() if p.weight > 0.0 and p.applies(()))
    if not candidates:
        raise ConfigError(
            f"constitution {loaded.name!r}: nothing to ask, because none of its principles needs a "
            "judge and applies to every prompt",
            hint="gold prompts have no tags, so principles with applies_to: are left out",
        )
    return Question(loaded.label, loaded.fingerprint, candidates, how_many, seed)
