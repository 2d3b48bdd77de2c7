"""Canaries: known pairs mixed into a run, to see during the run what its judges are worth.

The known pairs are the principles' own examples, judged like any comparison under their principle.
They are kept beside the row's judgments, never paired and never exported as preferences. A judge
sees no example as exemplar whose prompt is the live one, so none is shown its own answer.

An example that comes up again is remembered and not asked again, so canaries cost at most one
comparison per example, whatever the share; and accuracy counts each once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rlaif.constitution import Principle
from rlaif.records import Comparison, Judgment, Prompt, Response, content_uniform

ORIGIN = "canary"


@dataclass(frozen=True, slots=True)
class Canary:
    """A comparison whose first response is known to be better under its principle."""

    prompt: Prompt
    comparison: Comparison
    principle: Principle


@dataclass(frozen=True, slots=True)
class Caught:
    """Counts of judgments on canaries; every different canary counts once."""

    right: int
    wrong: int
    """Preferences of exactly ½ are neither right nor wrong."""

    even: int
    undecided: int
    """Without a preference, because every needed verdict abstained."""

    @property
    def accuracy(self) -> float | None:
        """Share of right ones, an even one counting half; None when none was decided."""
        decided = self.right + self.wrong + self.even
        return (self.right + self.even / 2) / decided if decided else None


def canary_comparisons(
    principles: Sequence[Principle],
    comparisons: Sequence[Comparison],
    *,
    share: float,
    seed: int,
) -> tuple[Canary, ...]:
    """Return the canaries that go with comparisons: one for each of a drawn share of them.

    Args:
        principles: Judged principles; those without examples or weight provide none.
        comparisons: Of one prompt.
        share: How many canaries per comparison, in [0, 1].
        seed: The run's seed.
    """
    if share <= 0.0:
        return ()
    known = [(one, n) for one in principles if one.weight for n in range(len(one.examples))]
    drawn: list[Canary] = []
    for comparison in comparisons if known else ():
        if content_uniform(seed, "canary", comparison.id) < share:
            at = content_uniform(seed, "which-canary", comparison.id)
            drawn.append(_canary(*known[int(at * len(known))]))
    return tuple({canary.comparison.id: canary for canary in drawn}.values())


def count_canaries(judgments: Iterable[Judgment]) -> Caught:
    """Count what the judgments on canaries say, over any number of rows."""
    counts = {"right": 0, "wrong": 0, "even": 0, "undecided": 0}
    for judgment in {(j.first_id, j.second_id): j for j in judgments}.values():
        preference = judgment.preference
        if preference is None:
            counts["undecided"] += 1
        elif preference == 0.5:
            counts["even"] += 1
        else:
            counts["right" if preference > 0.5 else "wrong"] += 1
    return Caught(**counts)


def _canary(principle: Principle, number: int) -> Canary:
    example = principle.examples[number]
    prompt = Prompt.build(example.prompt)
    # The principle is part of the ids: the same example under two principles is two canaries.
    origin = f"{ORIGIN}/{principle.id}"
    better, worse = (
        Response.build(prompt.id, text, index=index, origin=origin)
        for index, text in enumerate((example.better, example.worse))
    )
    return Canary(prompt, Comparison(better, worse), principle)
