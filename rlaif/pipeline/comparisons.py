"""Comparisons: which responses to one prompt are put before the judges together.

Pure, and blind to order: samples in another order give the same comparisons. Every response and
comparison that leads nowhere is a `Drop` with a reason:

| reason | what | because |
|---|---|---|
| ``refused`` | response | the server's own filter wrote it, not the student |
| ``empty`` | response | it is blank |
| ``unpaired`` | response | no other response is left to compare it with |
| ``identical`` | comparison | both texts are the same, but for white space at the ends |
| ``length`` | comparison | ``contrast``: one is too many times as long as the other |
"""

from collections.abc import Sequence
from itertools import combinations

from rlaif.records import Comparison, Drop, Response, content_uniform
from rlaif.records.response import CONTRAST_AGAINST, CONTRAST_FOR

_REFUSED = "refusal"

Couple = tuple[Response, Response]


def choose_comparisons(
    responses: Sequence[Response],
    *,
    strategy: str,
    seed: int,
    max_length_ratio: float | None = None,
) -> tuple[tuple[Comparison, ...], tuple[Drop, ...]]:
    """Choose which responses to one prompt are compared.

    Args:
        responses: All responses to one prompt.
        strategy: ``all-pairs``: every two that differ. ``random``: each response once at most, with
            a partner drawn by content. ``contrast``: the two that were sampled under a principle
            and under its opposite at the same place (RLCD).
        seed: The run's seed.
        max_length_ratio: Two responses of which one has more than this many times the words of the
            other are not compared: RLCD's labels would teach length. None compares all.

    Returns:
        Comparisons and drops, each sorted by ids. Which response is first follows from the ids.

    Raises:
        ValueError: No such strategy.
    """
    usable, drops = _usable(responses)
    if strategy == "all-pairs":
        couples = list(combinations(usable, 2))
        alone = usable if len(usable) == 1 else []
    elif strategy == "random":
        couples, alone = _draw_couples(usable, seed)
    elif strategy == "contrast":
        couples, alone = _contrast_couples(usable)
    else:
        raise ValueError(f"no such way to choose comparisons as {strategy!r}")
    drops.extend(Drop("response", "unpaired", (response.id,)) for response in alone)
    comparisons = []
    for one, other in couples:
        first, second = sorted((one, other), key=lambda response: response.id)
        reason = _why_not(first, second, max_length_ratio)
        if reason:
            drops.append(Drop("comparison", reason, (first.id, second.id)))
        else:
            comparisons.append(Comparison(first, second))
    comparisons.sort(key=lambda comparison: (comparison.first.id, comparison.second.id))
    return tuple(comparisons), sorted_drops(drops)


def same_text(one: Response, other: Response) -> bool:
    """Whether two responses are the same, but for white space at the ends."""
    return one.text.strip() == other.text.strip()


def sorted_drops(drops: Sequence[Drop]) -> tuple[Drop, ...]:
    """Drops in an order of their own, whatever led to them first."""
    return tuple(sorted(drops, key=lambda drop: (drop.what, drop.reason, drop.ids)))


def _why_not(first: Response, second: Response, max_length_ratio: float | None) -> str:
    if same_text(first, second):
        return "identical"
    if max_length_ratio is None:
        return ""
    short, long = sorted((len(first.text.split()), len(second.text.split())))
    return "length" if long > max_length_ratio * short else ""


def _usable(responses: Sequence[Response]) -> tuple[list[Response], list[Drop]]:
    """Sort by id, without duplicates and without what no student wrote."""
    usable, drops = [], []
    for response in sorted({r.id: r for r in responses}.values(), key=lambda r: r.id):
        if response.finish == _REFUSED:
            drops.append(Drop("response", "refused", (response.id,)))
        elif not response.text.strip():
            drops.append(Drop("response", "empty", (response.id,)))
        else:
            usable.append(response)
    return usable, drops


def _draw_couples(responses: Sequence[Response], seed: int) -> tuple[list[Couple], list[Response]]:
    """Go through responses in a drawn order; each takes the next one with another text."""
    waiting = sorted(responses, key=lambda r: content_uniform(seed, "compare", r.id))
    couples, alone = [], []
    while waiting:
        one = waiting.pop(0)
        at = next((n for n, other in enumerate(waiting) if not same_text(one, other)), None)
        if at is None:
            alone.append(one)
        else:
            couples.append((one, waiting.pop(at)))
    return couples, alone


def _contrast_couples(responses: Sequence[Response]) -> tuple[list[Couple], list[Response]]:
    """Put together what was sampled for and against at the same index; all else is alone."""
    kept = {r.index: r for r in responses if r.origin == CONTRAST_FOR}
    broken = {r.index: r for r in responses if r.origin == CONTRAST_AGAINST}
    couples = [(kept[index], broken[index]) for index in sorted(kept.keys() & broken.keys())]
    together = {response.id for couple in couples for response in couple}
    return couples, [response for response in responses if response.id not in together]
