import pytest

from rlaif.constitution import Principle, Rule
from rlaif.judging import judge_rules
from rlaif.records import Choice, Comparison, Order, Response
from tests.judging.fake import COMPARISON, KIND

SHORT = Principle(id="short", statement="Short.", kind="rule", rule=Rule(max_words=3))


def texts(first: str, second: str) -> Comparison:
    return Comparison(Response.build("p", first, index=0), Response.build("p", second, index=1))


@pytest.mark.parametrize(
    ("first", "second", "choice", "scores"),
    [
        ("one two", "one two three four", Choice.A, (1.0, 0.0)),
        ("one two three four", "one two", Choice.B, (0.0, 1.0)),
        ("one", "two", Choice.TIE, (1.0, 1.0)),
        ("one two three four", "five six seven eight", Choice.TIE, (0.0, 0.0)),
    ],
)
def test_the_response_that_alone_satisfies_a_rule_is_better(
    first: str, second: str, choice: Choice, scores: tuple[float, float]
) -> None:
    (verdict,) = judge_rules([SHORT], texts(first, second))
    assert (verdict.choice, verdict.scores, verdict.logit) == (choice, scores, None)
    assert (verdict.judge, verdict.principle, verdict.order) == ("rules", "short", Order.NONE)


def test_a_principle_without_a_rule_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="kind is not a rule principle"):
        judge_rules([KIND], COMPARISON)
