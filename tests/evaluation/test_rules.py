from rlaif.evaluation.rules import measure_rules
from tests.evaluation.factories import BRIEF, SHOUTS, group, rule


def test_a_response_counts_only_when_it_keeps_every_rule() -> None:
    groups = [group("p", "one two", "one two!", "one two three four!")]
    every, brief, shouts = measure_rules(groups, [BRIEF, SHOUTS])
    assert every.values == {"p": (0.0, 1.0, 0.0)}
    assert brief.values == {"p": (1.0, 1.0, 0.0)}
    assert shouts.values == {"p": (0.0, 1.0, 1.0)}
    assert [item.measure.name for item in (every, brief, shouts)] == [
        "rules",
        "rules/brief",
        "rules/shouts",
    ]


def test_a_failed_sample_is_unscored_at_its_own_index() -> None:
    (every, _) = measure_rules([group("p", None, "short", None)], [BRIEF])
    assert every.values == {"p": (None, 1.0, None)}


def test_what_a_filter_of_the_server_wrote_is_unscored() -> None:
    (every, _) = measure_rules([group("p", "no", finish="refusal")], [BRIEF])
    assert every.values == {"p": (None,)}


def test_a_rule_speaks_only_about_prompts_with_its_tags() -> None:
    loud = rule("loud", must_match="!", applies_to=["party"])
    groups = [group("a", "hi", tags=["party"]), group("b", "hi")]
    every, one = measure_rules(groups, [loud])
    assert every.values == one.values == {"a": (0.0,)}


def test_a_rule_of_weight_zero_is_off() -> None:
    assert measure_rules([group("p", "a b c d")], [rule("off", weight=0, max_words=1)]) == []
