from dataclasses import replace
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, strategies as st

from rlaif.judging import aggregate_verdicts
from rlaif.pipeline.comparisons import choose_comparisons
from rlaif.pipeline.pairing import pair_judgments
from rlaif.records import (
    Choice,
    Comparison,
    Drop,
    Judgment,
    Order,
    PreferencePair,
    Response,
    Verdict,
)


def responses(*texts: str) -> list[Response]:
    return [Response.build("prompt", text, index=n) for n, text in enumerate(texts)]


def judge(first: Response, second: Response, preference: float | None) -> Judgment:
    """A judgment with this preference for the first, oriented as given."""
    choice = Choice.ABSTAIN if preference is None else Choice.A
    verdict = Verdict("main", "test", "brief", Order.NONE, choice)
    judgment = aggregate_verdicts(Comparison(first, second), [verdict])
    return replace(judgment, preference=preference, raw_preference=preference)


def named(some: list[Response], pair: PreferencePair) -> tuple[str, str]:
    texts = {response.id: response.text for response in some}
    return texts[pair.chosen_id], texts[pair.rejected_id]


def counted(drops: tuple[Drop, ...]) -> dict[tuple[str, str], int]:
    keys = [(drop.what, drop.reason) for drop in drops]
    return {key: keys.count(key) for key in keys}


def test_all_pairs_compares_every_two_that_differ() -> None:
    comparisons, drops = choose_comparisons(
        responses("a", "b", "c", "b "), strategy="all-pairs", seed=0
    )
    assert len(comparisons) == 5
    assert counted(drops) == {("comparison", "identical"): 1}


def test_what_no_student_wrote_is_not_compared() -> None:
    some = [*responses("a", "b", "  "), Response.build("prompt", "No.", index=3, finish="refusal")]
    comparisons, drops = choose_comparisons(some, strategy="all-pairs", seed=0)
    assert len(comparisons) == 1
    assert counted(drops) == {("response", "empty"): 1, ("response", "refused"): 1}


def test_random_compares_each_response_once_at_most() -> None:
    some = responses(*"abcdefg")
    comparisons, drops = choose_comparisons(some, strategy="random", seed=0)
    used = [r.id for c in comparisons for r in (c.first, c.second)]
    assert len(used) == len(set(used)) == 6
    assert counted(drops) == {("response", "unpaired"): 1}
    others = [choose_comparisons(some, strategy="random", seed=n)[0] for n in range(5)]
    assert any(other != comparisons for other in others)


def test_random_finds_partners_among_repeated_texts_where_there_are_any() -> None:
    comparisons, drops = choose_comparisons(
        responses("a", "a", "a", "b"), strategy="random", seed=0
    )
    assert len(comparisons) == 1
    assert counted(drops) == {("response", "unpaired"): 2}


def test_unknown_strategies_are_programming_errors() -> None:
    with pytest.raises(ValueError, match="best"):
        choose_comparisons([], strategy="best", seed=0)
    with pytest.raises(ValueError, match="worst"):
        pair_judgments([], [], strategy="worst")


def test_the_preferred_side_is_chosen_with_its_probability() -> None:
    some = responses("a", "b")
    (pair,), drops = pair_judgments(some, [judge(some[0], some[1], 0.2)], strategy="all-pairs")
    assert named(some, pair) == ("b", "a")
    assert pair.chosen_prob == pytest.approx(0.8)
    assert pair.margin == pytest.approx(0.6)
    assert (pair.principles, pair.judges, pair.prompt_id) == (("brief",), ("main",), "prompt")
    assert drops == ()


def test_only_opinions_that_count_are_named_in_the_pair() -> None:
    some = responses("a", "b")
    half = [
        Verdict("half", "test", "kind", Order.AB, Choice.A, logit=3.0),
        Verdict("half", "test", "kind", Order.BA, Choice.ABSTAIN, reason="refused"),
        Verdict("main", "test", "brief", Order.NONE, Choice.A, logit=1.0),
    ]
    judgment = aggregate_verdicts(Comparison(*some), half)
    (pair,), _ = pair_judgments(some, [judgment], strategy="all-pairs")
    assert (pair.judges, pair.principles, pair.abstained) == (("main",), ("brief",), 1)


@pytest.mark.parametrize(
    ("preference", "reason"),
    [(None, "all-abstained"), (0.5, "tie"), (0.5 + 1e-12, "tie"), (0.54, "margin")],
)
@pytest.mark.parametrize("strategy", ["all-pairs", "random", "best-vs-worst"])
def test_what_decides_nothing_is_dropped_with_its_reason(
    preference: float | None, reason: str, strategy: str
) -> None:
    some = responses("a", "b")
    pairs, drops = pair_judgments(
        some, [judge(some[0], some[1], preference)], strategy=strategy, min_margin=0.1
    )
    assert pairs == ()
    assert counted(drops) == {("pair", reason): 1}


def test_best_and_worst_make_the_pair_when_they_were_compared() -> None:
    a, b, c = some = responses("a", "b", "c")
    judgments = [judge(a, b, 0.7), judge(b, c, 0.8), judge(a, c, 0.6)]
    # mean: a (0.7 + 0.6)/2 = 0.65, b (0.3 + 0.8)/2 = 0.55, c (0.2 + 0.4)/2 = 0.3
    (pair,), drops = pair_judgments(some, judgments, strategy="best-vs-worst")
    assert named(some, pair) == ("a", "c")
    assert pair.chosen_prob == pytest.approx(0.6)
    assert counted(drops) == {("pair", "not-selected"): 2}


def test_without_a_judgment_between_them_the_next_most_separated_speaks() -> None:
    a, b, c = some = responses("a", "b", "c")
    judgments = [judge(a, b, 0.9), judge(b, c, 0.7)]
    # mean: a 0.9, b (0.1 + 0.7)/2 = 0.4, c 0.3; a and c were never compared
    (pair,), _ = pair_judgments(some, judgments, strategy="best-vs-worst")
    assert named(some, pair) == ("a", "b")


def test_a_judgment_that_contradicts_the_ranking_is_not_taken() -> None:
    a, b, c, d = some = responses("a", "b", "c", "d")
    judgments = [
        judge(a, b, 0.9),
        judge(a, c, 0.9),
        judge(b, d, 0.9),
        judge(c, d, 0.9),
        judge(a, d, 0.45),  # the worst beats the best
        judge(b, c, 0.6),
    ]
    (pair,), _ = pair_judgments(some, judgments, strategy="best-vs-worst")
    assert named(some, pair) != ("d", "a")
    assert named(some, pair)[0] == "a" or named(some, pair)[1] == "d"


def test_a_perfect_cycle_has_neither_best_nor_worst() -> None:
    a, b, c = some = responses("a", "b", "c")
    judgments = [judge(a, b, 0.8), judge(b, c, 0.8), judge(c, a, 0.8)]
    pairs, drops = pair_judgments(some, judgments, strategy="best-vs-worst")
    assert pairs == ()
    assert counted(drops) == {("pair", "cyclic"): 3}


def test_random_never_uses_a_response_twice() -> None:
    some = responses(*"abcd")
    judgments = [judge(x, y, 0.8) for x, y in combinations(some, 2)]
    pairs, drops = pair_judgments(some, judgments, strategy="random", seed=3)
    used = [i for pair in pairs for i in (pair.chosen_id, pair.rejected_id)]
    assert len(used) == len(set(used)) == 4
    assert counted(drops) == {("pair", "not-selected"): 4}


@pytest.mark.parametrize("preference", [0.3, 0.7])
def test_the_smallest_margin_is_enough_whichever_response_comes_first(preference: float) -> None:
    a, b = some = responses("a", "b")
    for judgment in (judge(a, b, preference), judge(a, b, preference).swap()):
        pairs, drops = pair_judgments(some, [judgment], strategy="all-pairs", min_margin=0.4)
        assert (len(pairs), drops) == (1, ())


SHUFFLES = st.randoms(use_true_random=False)
STRATEGIES = st.sampled_from(["all-pairs", "random", "best-vs-worst"])
PREFERENCES = st.none() | st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]) | st.floats(0, 1)


@given(st.data(), STRATEGIES, st.floats(0, 0.5), st.integers(0, 9), SHUFFLES)
def test_every_judgment_is_a_pair_or_a_drop_whatever_the_order(
    data: st.DataObject, strategy: str, min_margin: float, seed: int, shuffle: Random
) -> None:
    some = responses(*data.draw(st.lists(st.sampled_from("abcde"), max_size=6)))
    couples = [couple for couple in combinations(some, 2) if data.draw(st.booleans())]
    judgments = [judge(x, y, data.draw(PREFERENCES)) for x, y in couples]
    pairs, drops = pair_judgments(
        some, judgments, strategy=strategy, min_margin=min_margin, seed=seed
    )
    texts = {response.id: response.text for response in some}
    for pair in pairs:
        assert pair.chosen_id != pair.rejected_id
        assert texts[pair.chosen_id] != texts[pair.rejected_id]
        assert 0.5 < pair.chosen_prob <= 1.0
        assert pair.margin >= min_margin - 1e-9
    accounted = [tuple(sorted((p.chosen_id, p.rejected_id))) for p in pairs]
    accounted += [drop.ids for drop in drops]
    assert sorted(accounted) == sorted(tuple(sorted((j.first_id, j.second_id))) for j in judgments)
    assert len(pairs) <= (1 if strategy == "best-vs-worst" else len(judgments))

    turned = [j.swap() if shuffle.random() < 0.5 else j for j in judgments]
    shuffle.shuffle(turned)
    shuffle.shuffle(some)
    again, dropped = pair_judgments(
        some, turned, strategy=strategy, min_margin=min_margin, seed=seed
    )
    assert dropped == drops
    assert [(p.chosen_id, p.rejected_id) for p in again] == [
        (p.chosen_id, p.rejected_id) for p in pairs
    ]


@given(
    st.lists(st.sampled_from(["a", "b", "c", " a", ""]), max_size=7),
    st.sampled_from(["all-pairs", "random"]),
    st.integers(0, 9),
    SHUFFLES,
)
def test_comparisons_do_not_depend_on_the_order_of_samples(
    texts: list[str], strategy: str, seed: int, shuffle: Random
) -> None:
    some = responses(*texts)
    straight = choose_comparisons(some, strategy=strategy, seed=seed)
    shuffled = list(some)
    shuffle.shuffle(shuffled)
    assert choose_comparisons(shuffled, strategy=strategy, seed=seed) == straight
    comparisons, drops = straight
    for comparison in comparisons:
        assert comparison.first.text.strip() != comparison.second.text.strip()
    mentioned = {r.id for c in comparisons for r in (c.first, c.second)}
    mentioned |= {response_id for drop in drops for response_id in drop.ids}
    assert mentioned == {r.id for r in some}
