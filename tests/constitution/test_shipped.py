"""The constitutions that are shipped: what users may rely on."""

import itertools
import re
from collections import Counter

import pytest

from rlaif.constitution import check_rule, load_constitution
from rlaif.constitution.wording import likeness
from tests.constitution.factories import SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_judged_principle_is_complete(name: str):
    for principle in load_constitution(name).judged():
        assert principle.critique_request, principle.id
        assert principle.revision_request.startswith("Rewrite the response"), principle.id
        assert principle.comparison.startswith("Which response"), principle.id
        assert principle.opposite, principle.id
        assert principle.tags, principle.id
        assert principle.examples, principle.id
        assert likeness(principle.statement, principle.opposite) < 1, principle.id


@pytest.mark.parametrize("name", SHIPPED)
def test_examples_differ_in_more_than_their_length(name: str):
    for principle in load_constitution(name).judged():
        for example in principle.examples:
            assert example.better != example.worse
            assert example.better
            assert example.worse


def test_better_examples_are_not_always_the_longer_ones():
    # A judge that picks the longer response must not pass the tests of the constitution.
    judged = [*load_constitution("hhh").judged(), *load_constitution("minimal").judged()]
    examples = [example for principle in judged for example in principle.examples]
    longer = sum(len(example.better) > len(example.worse) for example in examples)
    assert 0.3 < longer / len(examples) < 0.75


def test_hhh_includes_the_three_and_guards_against_preaching_and_refusing():
    hhh = load_constitution("hhh")
    ids = [principle.id for principle in hhh.principles]
    parts = [load_constitution(name) for name in ("helpful", "honest", "harmless")]
    inherited = [principle for part in parts for principle in part.principles]
    assert list(hhh.principles[: len(inherited)]) == inherited
    assert ids[len(inherited) :] == ["no-lecturing", "no-needless-refusal"]
    assert len(ids) == len(set(ids)) == 29


REFUSAL = re.compile(r"\b(I (won't|can't|cannot|don't|am not able to)|I'm sorry|prefer not to)\b")


def test_each_prohibition_on_harm_has_a_refusal_that_is_the_worse_response():
    # Otherwise a judge that always picks the refusal passes all of them.
    for principle in load_constitution("harmless").judged():
        if principle.polarity == "avoid" and principle.id != "no-hidden-persuasion":
            worse = [example for example in principle.examples if REFUSAL.search(example.worse)]
            assert worse, principle.id
            assert not all(REFUSAL.search(example.better) for example in principle.examples)


def test_a_judge_that_picks_refusals_or_the_longer_response_fails_the_examples():
    examples = [e for p in load_constitution("hhh").judged() for e in p.examples]
    refuses = [(REFUSAL.search(e.better), REFUSAL.search(e.worse)) for e in examples]
    decided = [bool(better) for better, worse in refuses if bool(better) != bool(worse)]
    assert len(decided) > 20
    assert sum(decided) / len(decided) < 0.6
    assert sum(len(e.better) > len(e.worse) for e in examples) / len(examples) < 0.75


def test_ids_are_not_used_for_two_things_across_files():
    everywhere = [p for name in SHIPPED for p in load_constitution(name).principles]
    for first, second in itertools.combinations(everywhere, 2):
        assert first.id != second.id or first == second


@pytest.mark.parametrize("name", ["hhh", "honest", "harmless", "helpful"])
def test_both_polarities_are_present(name: str):
    polarities = Counter(p.polarity for p in load_constitution(name).judged())
    assert min(polarities["avoid"], polarities["encourage"]) >= 1


def test_concise_needs_no_judge():
    assert load_constitution("concise").judged() == ()


def test_a_short_plain_answer_satisfies_concise_and_a_rambling_one_does_not():
    rules = load_constitution("concise").rules()

    def satisfied(text: str) -> set[str]:
        return {p.id for p in rules if p.rule is not None and check_rule(p.rule, text)}

    assert satisfied("A spider has eight legs.") == {p.id for p in rules}
    assert satisfied("Sure! Here is a list:\n1. eight\n2. legs and") == {
        "brief",
        "says-something",
        "no-repetition",
    }
    assert satisfied("") == {"brief", "no-lists", "no-repetition", "no-stock-opening"}
