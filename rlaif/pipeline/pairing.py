"""Pairing: which judgments become preference pairs.

Pure, and blind to order. Every judgment becomes one pair or one `Drop` with a reason:

| reason | because |
|---|---|
| ``identical`` | both texts are the same, but for white space at the ends |
| ``all-abstained`` | no opinion on it, so no preference |
| ``tie`` | the preference is ½ |
| ``margin`` | the margin is below ``min_margin`` |
| ``disagreement`` | the judges disagree by more than ``max_disagreement`` |
| ``cyclic`` | ``best-vs-…``: no judgment agrees with the ranking |
| ``tiers`` | ``length_tiers``: no judgment joins the best and the worst tier |
| ``not-selected`` | the strategy chose others |
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlaif.judging import opinion_sources
from rlaif.pipeline.comparisons import same_text, sorted_drops
from rlaif.records import Drop, Judgment, PreferencePair, Response, content_uniform

_EVEN = 1e-9  # preferences closer to ½ than this differ from it by rounding alone


def pair_judgments(
    responses: Sequence[Response],
    judgments: Sequence[Judgment],
    *,
    strategy: str,
    min_margin: float = 0.0,
    max_disagreement: float | None = None,
    length_tiers: float | None = None,
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
            ``best-vs-random``: one pair, the best response and one drawn by content of those that
            rank below it and lost against it.
        min_margin: Judgments with a smaller margin make no pair. They still count in the ranking.
        max_disagreement: Judgments on which the judges disagree by more make no pair either.
        length_tiers: ρ in (0, ½), for ``best-vs-worst``: of all responses whose rank is within ρ of
            the best, of the span from worst to best, the shortest is chosen, and of all within ρ of
            the worst the longest is rejected (Meta-Rewarding, arXiv 2407.19594), as far as a
            decided judgment joins them. Lengths are in characters.
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
        reason = _why_not(judgment, first, second, min_margin, max_disagreement)
        if reason:
            drops.append(Drop("pair", reason, _ids(judgment)))
        else:
            decided.append(judgment)
    selected, reason = _select(decided, strategy, _Ranking(judgments, texts), length_tiers, seed)
    kept = {id(judgment) for judgment in selected}
    drops.extend(Drop("pair", reason, _ids(j)) for j in decided if id(j) not in kept)
    pairs = [_pair(judgment, texts[judgment.first_id].prompt_id) for judgment in selected]
    return tuple(sorted(pairs, key=lambda p: (p.chosen_id, p.rejected_id))), sorted_drops(drops)


def _why_not(
    judgment: Judgment,
    first: Response,
    second: Response,
    min_margin: float,
    max_disagreement: float | None,
) -> str:
    """Why a judgment cannot become a pair; empty when it can."""
    preference, margin = judgment.preference, judgment.margin
    if same_text(first, second):
        return "identical"
    if preference is None or margin is None:
        return "all-abstained"
    if abs(preference - 0.5) < _EVEN:
        return "tie"
    if margin < min_margin - _EVEN:  # 2 · 0.7 − 1 is 0.4, as 1 − 2 · 0.3 is, though not in floats
        return "margin"
    spread = judgment.disagreement
    unsettled = max_disagreement is not None and spread is not None and spread > max_disagreement
    return "disagreement" if unsettled else ""


def _select(
    decided: Sequence[Judgment],
    strategy: str,
    ranking: "_Ranking",
    length_tiers: float | None,
    seed: int,
) -> tuple[Sequence[Judgment], str]:
    """Return the judgments a strategy takes, and why it leaves the others."""
    if strategy == "all-pairs":
        return decided, ""
    if strategy == "random":
        return _draw_disjoint(decided, seed), "not-selected"
    agreeing = [judgment for judgment in decided if ranking.distance(judgment) > _EVEN]
    if strategy == "best-vs-random":
        return _best_and_random(agreeing, ranking, seed)
    if strategy == "best-vs-worst":
        if length_tiers is not None:
            return _shortest_and_longest(agreeing, ranking, length_tiers)
        return _one(agreeing, key=ranking.strength, otherwise="cyclic")
    raise ValueError(f"no such pairing strategy as {strategy!r}")


def _draw_disjoint(judgments: Sequence[Judgment], seed: int) -> list[Judgment]:
    """Take judgments in a drawn order, skipping those about a response already taken."""
    taken: set[str] = set()
    selected = []
    for judgment in sorted(judgments, key=lambda j: content_uniform(seed, "pair", *_ids(j))):
        if not taken & set(_ids(judgment)):
            taken.update(_ids(judgment))
            selected.append(judgment)
    return selected


class _Ranking:
    """Where responses stand: their mean preference over all judgments that have one."""

    def __init__(self, judgments: Sequence[Judgment], texts: Mapping[str, Response]) -> None:
        points: dict[str, list[float]] = {}
        for judgment in sorted(judgments, key=_ids):
            if judgment.preference is not None:
                points.setdefault(judgment.first_id, []).append(judgment.preference)
                points.setdefault(judgment.second_id, []).append(1.0 - judgment.preference)
        self.ranks = {one: sum(some) / len(some) for one, some in points.items()}
        self.lengths = {one: len(response.text) for one, response in texts.items()}

    def distance(self, judgment: Judgment) -> float:
        """How far the preferred side ranks above the other.

        Negative when the judgment contradicts the ranking: its pair would teach the opposite of
        what all judgments together say.
        """
        chosen, rejected = _sides(judgment)
        return self.ranks[chosen] - self.ranks[rejected]

    def strength(self, judgment: Judgment) -> tuple[float, float, tuple[str, str]]:
        """What of several judgments is the most separated one, whatever their order."""
        return round(self.distance(judgment), 9), round(judgment.margin or 0.0, 9), _ids(judgment)


def _one(
    judgments: Sequence[Judgment], *, key: Callable[[Judgment], Any], otherwise: str
) -> tuple[list[Judgment], str]:
    """The greatest judgment by a key, and the reason against the others or against all."""
    if not judgments:
        return [], otherwise
    return [max(judgments, key=key)], "not-selected"


def _best_and_random(
    judgments: Sequence[Judgment], ranking: _Ranking, seed: int
) -> tuple[list[Judgment], str]:
    chosen = [_sides(judgment)[0] for judgment in judgments]
    best = max(chosen, key=lambda one: (round(ranking.ranks[one], 9), one), default="")
    won = [judgment for judgment in judgments if _sides(judgment)[0] == best]
    return _one(won, key=lambda j: content_uniform(seed, "pair", *_ids(j)), otherwise="cyclic")


def _shortest_and_longest(
    judgments: Sequence[Judgment], ranking: _Ranking, rho: float
) -> tuple[list[Judgment], str]:
    if not judgments:
        return [], "cyclic"
    top, bottom = max(ranking.ranks.values()), min(ranking.ranks.values())
    reach = rho * (top - bottom) + _EVEN
    spanning = []
    for judgment in judgments:
        chosen, rejected = _sides(judgment)
        if ranking.ranks[chosen] >= top - reach and ranking.ranks[rejected] <= bottom + reach:
            spanning.append(judgment)

    def brevity(judgment: Judgment) -> tuple[int, int, tuple[float, float, tuple[str, str]]]:
        chosen, rejected = _sides(judgment)
        return (
            -ranking.lengths[chosen],
            ranking.lengths[rejected],
            ranking.strength(judgment),
        )

    return _one(spanning, key=brevity, otherwise="tiers")


def _sides(judgment: Judgment) -> tuple[str, str]:
    """Ids of the preferred response and the other."""
    ids = (judgment.first_id, judgment.second_id)
    return ids if (judgment.preference or 0.0) > 0.5 else (ids[1], ids[0])


def _pair(judgment: Judgment, prompt_id: str) -> PreferencePair:
    assert judgment.preference is not None
    assert judgment.agreement is not None
    chosen, rejected = _sides(judgment)
    sources = opinion_sources(judgment.verdicts)
    return PreferencePair(
        prompt_id=prompt_id,
        chosen_id=chosen,
        rejected_id=rejected,
        chosen_prob=max(judgment.preference, 1.0 - judgment.preference),
        margin=abs(2.0 * judgment.preference - 1.0),
        principles=tuple(sorted({principle for _, principle in sources})),
        judges=tuple(sorted({judge for judge, _ in sources})),
        agreement=judgment.agreement,
        abstained=judgment.abstained,
    )


def _ids(judgment: Judgment) -> tuple[str, str]:
    """The two response ids, sorted, so that a swapped judgment has the same."""
    first, second = sorted((judgment.first_id, judgment.second_id))
    return first, second
