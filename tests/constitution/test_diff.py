from pathlib import Path

from hypothesis import given, strategies as st

from rlaif.constitution import load_constitution
from rlaif.constitution.diff import diff_constitutions, render_diff, word_changes
from tests.constitution.factories import constitution, principle, write

OLD = """\
name: old
version: 1.0.0
principles:
  - id: first
    statement: Say where each number comes from.
    tags: [honest]
    examples: [{prompt: How tall is it?, better: b, worse: w}]
  - id: gone
    statement: Use metric units.
  - id: before
    statement: Warn about sharp tools.
  - id: short
    kind: rule
    statement: Answer in at most 60 words.
    rule: {max_words: 60, ends_complete: true}
  - id: last
    statement: Name the law.
"""
NEW = """\
name: new
version: 2.0.0
principles:
  - id: last
    statement: Name the law.
  - id: first
    statement: Say where each figure comes from.
    weight: 2
    tags: [truth]
    applies_to: [science]
    polarity: encourage
    examples: [{prompt: How old is it?, better: b, worse: w}]
  - id: after
    statement: Warn about sharp tools.
  - id: short
    kind: rule
    statement: Answer in at most 60 words.
    rule: {max_words: 50, ends_complete: true}
  - id: come
    statement: Answer in the language of the person.
"""


def test_a_rendered_difference(tmp_path: Path):
    old = load_constitution(write(tmp_path, "old.yaml", OLD))
    new = load_constitution(write(tmp_path, "new.yaml", NEW))
    assert render_diff(diff_constitutions(old, new)) == [
        f"--- {old.label} (version 1.0.0)",
        f"+++ {new.label} (version 2.0.0)",
        "~ before is now after",
        "~ first statement",
        "    Say where each [-number-] {+figure+} comes from.",
        "~ first examples",
        "    - 'How tall is it?'",
        "    + 'How old is it?'",
        "~ first weight 1 → 2",
        "~ first tags -honest +truth",
        "~ first applies_to +science",
        "- gone: Use metric units.",
        "~ short rule",
        "    max_words: 60 → 50",
        "+ come: Answer in the language of the person.",
        "~ last moved from place 4 to 1",
        "1 of 5 principles unchanged",
    ]


def test_names_versions_and_descriptions_do_not_count():
    a = principle("a")
    difference = diff_constitutions(constitution(a), constitution(a, name="x", version="9"))
    assert not difference
    assert difference.changes == ()
    assert render_diff(difference)[-1] == "all 1 principles unchanged"


def test_only_tags_change_no_data():
    before = constitution(principle("a"))
    after = constitution(principle("a", tags=("x",), weight=2.0))
    changes = diff_constitutions(before, after).changes
    assert [(c.kind, c.field, c.changes_data) for c in changes] == [
        ("reweighted", "weight", True),
        ("retagged", "tags", False),
    ]
    assert changes[0].as_json() == {
        "kind": "reweighted",
        "principle": "a",
        "field": "weight",
        "old": 1.0,
        "new": 2.0,
        "changes_data": True,
    }


def test_turning_a_judged_principle_into_a_rule_is_a_redefinition():
    before = constitution(principle("a"))
    after = constitution(principle("a", kind="rule", rule={"max_words": 3}))
    difference = diff_constitutions(before, after)
    assert [(c.kind, c.field) for c in difference.changes] == [
        ("redefined", "kind"),
        ("redefined", "rule"),
    ]
    assert "    max_words: None → 3" in render_diff(difference)


def test_one_principle_moved_to_the_end_is_one_move():
    a, b, c, d = (principle(id) for id in "abcd")
    (change,) = diff_constitutions(constitution(a, b, c, d), constitution(b, c, d, a)).changes
    assert (change.kind, change.principle, change.old, change.new) == ("reordered", "a", 1, 4)


LISTS = st.lists(
    st.builds(
        principle,
        st.sampled_from("abcdef"),
        statement=st.sampled_from(("One wish.", "Another wish.")),
        weight=st.sampled_from((1.0, 2.0)),
    ),
    min_size=1,
    unique_by=lambda p: p.id,
)


@given(LISTS, LISTS)
def test_no_difference_means_equal_fingerprints_and_the_reverse(one, other):
    first, second = constitution(*one), constitution(*other)
    difference = diff_constitutions(first, second)
    assert bool(difference) == (first.fingerprint != second.fingerprint)


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_both_texts_can_be_read_from_the_word_changes(old, new):
    import re

    marked = word_changes(" ".join(old), " ".join(new))
    without_new = re.sub(r"\{\+.*?\+\}", "", marked)
    assert re.sub(r"\[-(.*?)-\]", r"\1", without_new).split() == old
    without_old = re.sub(r"\[-.*?-\]", "", marked)
    assert re.sub(r"\{\+(.*?)\+\}", r"\1", without_old).split() == new
