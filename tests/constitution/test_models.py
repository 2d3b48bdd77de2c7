import pickle  # noqa: TID251 - to other processes, never from disk
from typing import Any

import pytest
from pydantic import ValidationError

from rlaif.constitution import Example, Principle, Rule
from tests.constitution.factories import constitution, principle

CHANGES: dict[str, Any] = {
    "id": "b",
    "statement": "Another wish entirely.",
    "polarity": "avoid",
    "weight": 2.0,
    "applies_to": ("red-team",),
    "critique_request": "Point it out.",
    "revision_request": "Rewrite it.",
    "comparison": "Which response is it?",
    "opposite": "The contrary.",
    "examples": ({"prompt": "p", "better": "b", "worse": "w"},),
}


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_that_can_change_data_changes_the_fingerprint(field: str):
    assert principle().fingerprint != principle(**{field: CHANGES[field]}).fingerprint


def test_the_rule_and_the_kind_change_the_fingerprint():
    prints = {
        principle().fingerprint,
        principle(kind="rule", rule={"max_words": 3}).fingerprint,
        principle(kind="rule", rule={"max_words": 4}).fingerprint,
        principle(kind="rule", rule={"min_words": 3}).fingerprint,
    }
    assert len(prints) == 4


def test_every_field_but_tags_is_covered_by_the_fingerprint_tests():
    assert set(Principle.model_fields) == {*CHANGES, "kind", "rule", "tags"}


def test_tags_and_written_out_defaults_do_not_change_the_fingerprint():
    same = principle(tags=("x",), weight=1.0, kind="judged", examples=(), rule=None)
    assert same.fingerprint == principle().fingerprint


def test_a_fingerprint_is_the_same_in_every_version_of_python_and_of_this_package():
    # Runs are compared by it: if this fails, old runs no longer match the same words.
    expected = "8be18ead264e2acf15e8f9cd629f89a7"
    assert principle("stable", statement="Be brief.", weight=2).fingerprint == expected


def test_a_changed_copy_does_not_keep_the_old_fingerprint():
    first = principle()
    before = first.fingerprint
    changed = first.model_copy(update={"statement": "Another wish."})
    deep = first.model_copy(update={"statement": "Another wish."}, deep=True)
    assert (
        changed.fingerprint == deep.fingerprint == principle(statement="Another wish.").fingerprint
    )
    assert first.fingerprint == before != changed.fingerprint


def test_a_principle_is_frozen_and_survives_pickling_with_its_fingerprint():
    first = principle(examples=(Example(prompt="p", better="b", worse="w"),))
    expected = first.fingerprint
    again = pickle.loads(pickle.dumps(first))
    assert again == first
    assert again.fingerprint == expected
    with pytest.raises(ValidationError, match="frozen"):
        first.statement = "other"  # type: ignore[misc]


def test_remembering_the_fingerprint_changes_neither_equality_nor_hash():
    first, second = principle(), principle()
    assert first.fingerprint
    assert first == second
    assert hash(first) == hash(second)
    assert "fingerprint" not in first.model_dump()


def test_the_constitution_fingerprint_depends_on_order_and_principles_but_not_on_names():
    a, b = principle("a"), principle("b")
    first = constitution(a, b)
    assert first.fingerprint == constitution(a, b, name="other", version="9").fingerprint
    assert first.fingerprint != constitution(b, a).fingerprint
    assert first.fingerprint != constitution(a).fingerprint
    assert first.label == f"test@{first.fingerprint[:12]}"
    assert pickle.loads(pickle.dumps(first)).label == first.label


def test_judged_and_rule_principles_are_told_apart():
    judged, rule = principle("a"), principle("b", kind="rule", rule=Rule(max_words=1))
    both = constitution(judged, rule)
    assert both.judged() == (judged,)
    assert both.rules() == (rule,)
    assert both.principle("b") is rule
    with pytest.raises(KeyError):
        both.principle("c")


def test_a_principle_without_applies_to_is_for_every_prompt():
    assert principle().applies(())
    assert principle(applies_to=("x", "y")).applies(("y", "z"))
    assert not principle(applies_to=("x",)).applies(())


def test_two_principles_with_one_id_are_refused():
    with pytest.raises(ValidationError, match="duplicate principle id a"):
        constitution(principle("a"), principle("a"))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "no checks"),
        ({"max_words": 3, "min_words": 4}, "no text can satisfy"),
        ({"must_match": "("}, "not a valid regular expression"),
        ({"must_match": "[[a]"}, "not a valid regular expression: Possible nested set"),
        ({"must_match": "a{99999999999}"}, "not a valid regular expression"),
        ({"language": "english"}, "unknown language code english"),
        ({"ends_complete": False}, "Input should be True"),
        ({"max_words": True}, "valid integer"),
        ({"max_words": "3"}, "valid integer"),
    ],
)
def test_invalid_rules_are_refused(rule: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        Rule.model_validate(rule)
