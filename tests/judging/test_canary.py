import pytest

from rlaif.constitution import Example, Principle
from rlaif.judging import canary_comparisons, count_canaries
from rlaif.records import Comparison, Judgment, Response

EXAMPLES = tuple(Example(prompt=f"p{n}", better=f"good {n}", worse=f"bad {n}") for n in range(3))
KIND = Principle(id="kind", statement="Be kind.", examples=EXAMPLES)
CLEAR = Principle(id="clear", statement="Be clear.", examples=EXAMPLES[:1])
BARE = Principle(id="bare", statement="Be bare.")
SILENT = Principle(id="silent", statement="Be silent.", examples=EXAMPLES, weight=0.0)
ALL = (KIND, CLEAR, BARE, SILENT)


def comparisons(count: int) -> list[Comparison]:
    return [
        Comparison(Response.build("p", f"a{n}", index=0), Response.build("p", f"b{n}", index=1))
        for n in range(count)
    ]


def test_the_better_one_of_a_known_pair_is_first() -> None:
    drawn = canary_comparisons(ALL, comparisons(60), share=1.0, seed=1)
    assert len(drawn) == 4  # each different one once, of principles that have weight and examples
    assert {canary.principle.id for canary in drawn} == {"kind", "clear"}
    for canary in drawn:
        number = canary.prompt.text[1:]
        assert canary.comparison.first.text == f"good {number}"
        assert canary.comparison.second.text == f"bad {number}"
        assert canary.comparison.first.origin == f"canary/{canary.principle.id}"


def test_a_share_of_the_comparisons_brings_one_and_content_decides_which() -> None:
    hits = [bool(canary_comparisons(ALL, [c], share=0.2, seed=1)) for c in comparisons(500)]
    assert 60 <= sum(hits) <= 140
    again = [bool(canary_comparisons(ALL, [c], share=0.2, seed=1)) for c in comparisons(500)]
    assert hits == again
    assert canary_comparisons(ALL, comparisons(50), share=0.0, seed=1) == ()
    assert canary_comparisons([BARE], comparisons(50), share=1.0, seed=1) == ()


def judged(name: str, preference: float | None) -> Judgment:
    return Judgment(f"{name}+", f"{name}-", preference, preference, (), None, None, 0, ())


def test_accuracy_counts_every_different_canary_once() -> None:
    caught = count_canaries(
        [judged("a", 0.9), judged("a", 0.9), judged("b", 0.2), judged("c", 0.5), judged("d", None)]
    )
    assert (caught.right, caught.wrong, caught.even, caught.undecided) == (1, 1, 1, 1)
    assert caught.accuracy == pytest.approx(0.5)
    assert count_canaries([judged("d", None)]).accuracy is None
