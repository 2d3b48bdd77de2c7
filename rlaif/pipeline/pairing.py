"""Pairing: which responses are compared, and which judgments become preference pairs.

Pure, and blind to order: samples in another order give the same comparisons and the same pairs.
Every response, comparison and judgment that leads nowhere is a `Drop` with a reason:

| reason | what | because |
|---|---|---|
| ``refused`` | response | the server's own filter wrote it, not the student |
| ``empty`` | response | it is blank |
| ``unpaired`` | response | there is no partner for it |
| ``identical`` | comparison, pair | both texts are the same, but for white space at the ends |
| ``all-abstained`` | pair | no opinion on it, so no preference |
| ``tie`` | pair | the preference is ½ |
| ``margin`` | pair | the margin is below ``min_margin`` |
| ``cyclic`` | pair | ``best-vs-worst``: no judgment separates better from worse |
| ``not-selected`` | pair | the strategy chose others |
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

from rlaif.judging import read_opinions
from rlaif.records import (
    Comparison,
    Drop,
    Judgment,
    PreferencePair,
    Response,
    content_uniform,
)

_EVEN = 1e-9  # preferences closer to ½ than this differ from it by rounding alone
_REFUSED = "refusal"


def choose_comparisons(
    responses: Sequence[Response], *, strategy: str, seed: int
) -> tuple[tuple[Comparison, ...], tuple[Drop, ...]]:
    """Choose which responses to one prompt are compared.

    Args:
        responses: All responses to one prompt.
        strategy: ``all-pairs``: every two that differ. ``random``: each response once at most, with
            a partner drawn by content.
        seed: The run's seed.

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
    else:
        raise ValueError(f"no such way to choose comparisons as {strategy!r}")
    drops.extend(Drop("response", "unpaired", (response.id,)) for response in alone)
    comparisons = []
    for one, other in couples:
        first, second = sorted((one, other), key=lambda response: response.id)
        if _same_text(first, second):
            drops.append(Drop("comparison", "identical", (first.id, second.id)))
        else:
            comparisons.append(Comparison(first, second))
    comparisons.sort(key=lambda comparison: (comparison.first.id, comparison.second.id))
    return tuple(comparisons), _sorted(drops)


def pair_judgments(
    responses: Sequence[Response],
    judgments: Sequence[Judgment],
    *,
    strategy: str,
    min_margin: float = 0.0,
    seed: int = 0,
) -> tuple[tuple[PreferencePair, ...], tuple[Drop, ...]]:
    """Make preference pairs of judgments: the preferred response is chosen, the other rejected.

    Every judgment becomes exactly one pair or one drop.

    Args:
        responses: All responses that the judgments speak about.
        judgments: On one prompt.
        strategy: ``all-pairs``: every judgment. ``random``: drawn by content, so that no response
            is in two pairs. ``best-vs-worst``: one pair, the judgment that agrees with the ranking
            and separates most in it. A response's rank is its mean preference over all judgments
            with a preference; best and worst are that pair when they were compared, and decided.
        min_margin: Judgments with a smaller margin make no pair. They still count in the ranking.
        seed: The run's seed.

    Returns:
        Pairs and drops, each sorted by ids.

    Raises:
        KeyError: A judgment names a response that is not among ``responses``.
        ValueError: No such strategy.
    """
    texts = {response.id: response for response in responses}
    decided: list[Judgment] = []
    drops: list[Drop] = []
    for judgment in sorted(judgments, key=_ids):
        first, second = texts[judgment.first_id], texts[judgment.second_id]
        reason = _why_not(judgment, first, second, min_margin)
        if reason:
            drops.append(Drop("pair", reason, _ids(judgment)))
        else:
            decided.append(judgment)
    if strategy == "all-pairs":
        selected, reason = decided, ""
    elif strategy == "random":
        selected, reason = _draw_disjoint(decided, seed), "not-selected"
    elif strategy == "best-vs-worst":
        selected, reason = _most_separated(decided, _ranks(judgments))
    else:
        raise ValueError(f"no such pairing strategy as {strategy!r}")
    kept = {id(judgment) for judgment in selected}
    drops.extend(Drop("pair", reason, _ids(j)) for j in decided if id(j) not in kept)
    pairs = [_pair(judgment, texts[judgment.first_id].prompt_id) for judgment in selected]
    return tuple(sorted(pairs, key=lambda p: (p.chosen_id, p.rejected_id))), _sorted(drops)


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


def _draw_couples(
    responses: Sequence[Response], seed: int
) -> tuple[list[tuple[Response, Response]], list[Response]]:
    """Go through responses in a drawn order; each takes the next one with another text."""
    waiting = sorted(responses, key=lambda r: content_uniform(seed, "compare", r.id))
    couples, alone = [], []
    while waiting:
        one = waiting.pop(0)
        at = next((n for n, other in enumerate(waiting) if not _same_text(one, other)), None)
        if at is None:
            alone.append(one)
        else:
            couples.append((one, waiting.pop(at)))
    return couples, alone


def _why_not(judgment: Judgment, first: Response, second: Response, min_margin: float) -> str:
    """Why a judgment cannot become a pair; empty when it can."""
    preference, margin = judgment.preference, judgment.margin
    if _same_text(first, second):
        return "identical"
    if preference is None or margin is None:
        return "all-abstained"
    if abs(preference - 0.5) < _EVEN:
        return "tie"
    return "margin" if margin < min_margin else ""


def _draw_disjoint(judgments: Sequence[Judgment], seed: int) -> list[Judgment]:
    """Take judgments in a drawn order, skipping those about a response already taken."""
    taken: set[str] = set()
    selected = []
    for judgment in sorted(judgments, key=lambda j: content_uniform(seed, "pair", *_ids(j))):
        if not taken & set(_ids(judgment)):
            taken.update(_ids(judgment))
            selected.append(judgment)
    return selected


def _ranks(judgments: Sequence[Judgment]) -> dict[str, float]:
    """Mean probability of being preferred, over all judgments with a preference."""
    points: dict[str, list[float]] = {}
    for judgment in sorted(judgments, key=_ids):
        if judgment.preference is not None:
            points.setdefault(judgment.first_id, []).append(judgment.preference)
            points.setdefault(judgment.second_id, []).append(1.0 - judgment.preference)
    return {response_id: sum(some) / len(some) for response_id, some in points.items()}


def _most_separated(
    judgments: Sequence[Judgment], ranks: Mapping[str, float]
) -> tuple[list[Judgment], str]:
    """Return the judgment whose preferred side is furthest above the other, or why there is none.

    A judgment that contradicts the ranking has a negative distance and is never taken: its pair
    would teach the opposite of what all judgments together say.
    """

    def distance(judgment: Judgment) -> float:
        chosen, rejected = _sides(judgment)
        return ranks[chosen] - ranks[rejected]

    def strength(judgment: Judgment) -> tuple[float, float, tuple[str, str]]:
        return round(distance(judgment), 9), round(judgment.margin or 0.0, 9), _ids(judgment)

    best = max(judgments, key=strength, default=None)
    if best is None or distance(best) <= _EVEN:
        return [], "cyclic"
    return [best], "not-selected"


def _sides(judgment: Judgment) -> tuple[str, str]:
    """Ids of the preferred response and the other."""
    ids = (judgment.first_id, judgment.second_id)
    return ids if (judgment.preference or 0.0) > 0.5 else (ids[1], ids[0])


def _pair(judgment: Judgment, prompt_id: str) -> PreferencePair:
    assert judgment.preference is not None
    assert judgment.agreement is not None
    chosen, rejected = _sides(judgment)
    opinions = read_opinions(judgment.verdicts)
    return PreferencePair(
        prompt_id=prompt_id,
        chosen_id=chosen,
        rejected_id=rejected,
        chosen_prob=max(judgment.preference, 1.0 - judgment.preference),
        margin=abs(2.0 * judgment.preference - 1.0),
        principles=tuple(sorted({opinion.principle for opinion in opinions})),
        judges=tuple(sorted({opinion.judge for opinion in opinions})),
        agreement=judgment.agreement,
        abstained=judgment.abstained,
    )


def _ids(judgment: Judgment) -> tuple[str, str]:
    """The two response ids, sorted, so that a swapped judgment has the same."""
    first, second = sorted((judgment.first_id, judgment.second_id))
    return first, second


def _same_text(one: Response, other: Response) -> bool:
    return one.text.strip() == other.text.strip()


def _sorted(drops: Sequence[Drop]) -> tuple[Drop, ...]:
    return tuple(sorted(drops, key=lambda drop: (drop.what, drop.reason, drop.ids)))
