"""What narrows or widens pairing: disagreement, length tiers, best-vs-random; contrast couples."""

from dataclasses import replace

import pytest

from rlaif.pipeline.comparisons import choose_comparisons
from rlaif.pipeline.pairing import pair_judgments
from rlaif.records import Drop, Judgment, Response


def response(text: str, index: int = 0, origin: str = "sample") -> Response:
    return Response.build("prompt", text, index=index, origin=origin)


def judgment(first: Response, second: Response, preference: float) -> Judgment:
    return Judgment(first.id, second.id, preference, preference, (), 1.0, None, 0, ())


def reasons(drops: tuple[Drop, ...]) -> list[str]:
    return [drop.reason for drop in drops]


# Ranks by strength: best and good nearly equal, then poor and worst nearly equal.
BEST = response("the very best one, which is rather long")
GOOD = response("good")
POOR = response("poor, and goes on and on and on about it")
WORST = response("worst")
GROUP = [BEST, GOOD, POOR, WORST]
JUDGED = [
    judgment(BEST, GOOD, 0.55),
    judgment(BEST, POOR, 0.9),
    judgment(BEST, WORST, 0.95),
    judgment(GOOD, POOR, 0.9),
    judgment(GOOD, WORST, 0.9),
    judgment(POOR, WORST, 0.55),
]
# ranks: best (0.55 + 0.9 + 0.95)/3 = 0.8; good (0.45 + 0.9 + 0.9)/3 = 0.75;
# poor (0.1 + 0.1 + 0.55)/3 = 0.25; worst (0.05 + 0.1 + 0.45)/3 = 0.2. Span 0.6.


def test_length_tiers_choose_the_shortest_of_the_best_and_reject_the_longest_of_the_worst() -> None:
    (plain,), _ = pair_judgments(GROUP, JUDGED, strategy="best-vs-worst")
    assert (plain.chosen_id, plain.rejected_id) == (BEST.id, WORST.id)
    (tiered,), drops = pair_judgments(GROUP, JUDGED, strategy="best-vs-worst", length_tiers=0.1)
    assert (tiered.chosen_id, tiered.rejected_id) == (GOOD.id, POOR.id)
    assert reasons(drops) == ["not-selected"] * 5
    # Within 0.05 · 0.6 = 0.03 of the best there is only the best.
    (narrow,), _ = pair_judgments(GROUP, JUDGED, strategy="best-vs-worst", length_tiers=0.05)
    assert (narrow.chosen_id, narrow.rejected_id) == (BEST.id, WORST.id)


def test_tiers_that_no_judgment_joins_make_no_pair() -> None:
    # best > good > poor in a chain; best and poor were never compared.
    chain = [judgment(BEST, GOOD, 0.9), judgment(GOOD, POOR, 0.9)]
    pairs, drops = pair_judgments(GROUP, chain, strategy="best-vs-worst", length_tiers=0.1)
    assert pairs == ()
    assert reasons(drops) == ["tiers", "tiers"]


def test_best_vs_random_takes_the_best_and_any_that_lost_against_it() -> None:
    rejected = set()
    for seed in range(40):
        (pair,), drops = pair_judgments(GROUP, JUDGED, strategy="best-vs-random", seed=seed)
        assert pair.chosen_id == BEST.id
        assert len(drops) == 5
        rejected.add(pair.rejected_id)
    assert rejected == {GOOD.id, POOR.id, WORST.id}
    again, _ = pair_judgments(GROUP, JUDGED[::-1], strategy="best-vs-random", seed=7)
    assert again == pair_judgments(GROUP, JUDGED, strategy="best-vs-random", seed=7)[0]


def test_a_circle_has_no_best() -> None:
    circle = [
        judgment(BEST, GOOD, 0.9),
        judgment(GOOD, POOR, 0.9),
        judgment(POOR, BEST, 0.9),
    ]
    for strategy in ("best-vs-random", "best-vs-worst"):
        pairs, drops = pair_judgments(GROUP, circle, strategy=strategy)
        assert pairs == ()
        assert reasons(drops) == ["cyclic"] * 3


def test_judgments_on_which_the_judges_disagree_make_no_pair() -> None:
    disputed = replace(JUDGED[2], disagreement=0.5)
    agreed = replace(JUDGED[1], disagreement=0.3)
    alone = JUDGED[0]
    pairs, drops = pair_judgments(
        GROUP, [disputed, agreed, alone], strategy="all-pairs", max_disagreement=0.4
    )
    assert len(pairs) == 2
    assert reasons(drops) == ["disagreement"]
    kept, _ = pair_judgments(GROUP, [disputed], strategy="all-pairs", max_disagreement=0.5)
    assert len(kept) == 1


def test_contrast_compares_the_two_sides_of_each_couple_alone() -> None:
    kept = [response(f"kept {n}", n, "contrast-for") for n in range(3)]
    broken = [response(f"broken {n}", n, "contrast-against") for n in range(2)]
    comparisons, drops = choose_comparisons([*kept, *broken], strategy="contrast", seed=0)
    sides = {frozenset((c.first.text, c.second.text)) for c in comparisons}
    assert sides == {frozenset(("kept 0", "broken 0")), frozenset(("kept 1", "broken 1"))}
    assert drops == (Drop("response", "unpaired", (kept[2].id,)),)


@pytest.mark.parametrize("strategy", ["all-pairs", "contrast"])
def test_too_unequal_lengths_are_not_compared_and_counted(strategy: str) -> None:
    short = response("one two", 0, "contrast-for")
    long = response("one two three four five", 0, "contrast-against")
    comparisons, drops = choose_comparisons(
        [short, long], strategy=strategy, seed=0, max_length_ratio=2.0
    )
    assert comparisons == ()
    assert reasons(drops) == ["length"]
    comparisons, _ = choose_comparisons(
        [short, long], strategy=strategy, seed=0, max_length_ratio=2.5
    )
    assert len(comparisons) == 1
