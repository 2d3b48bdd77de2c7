import pytest

from rlaif.judging import ConstructionJudge
from rlaif.records import Choice, Comparison, Response
from tests.judging.fake import COMPARISON, KIND, PROMPT

FOR = Response.build("egg", "Gladly.", index=0, origin="contrast-for")
AGAINST = Response.build("egg", "Go away.", index=0, origin="contrast-against")


async def test_what_was_sampled_under_the_principle_is_better() -> None:
    judge = ConstructionJudge()
    (straight,) = await judge.judge(PROMPT, Comparison(FOR, AGAINST), [KIND])
    (turned,) = await judge.judge(PROMPT, Comparison(AGAINST, FOR), [KIND])
    assert (straight.choice, turned.choice) == (Choice.A, Choice.B)
    assert (straight.principle, straight.judge, straight.logit) == ("kind", "construction", None)
    assert judge.cost.calls(comparisons=9, responses=9, principles=9) == 0


async def test_other_responses_have_no_label_by_construction() -> None:
    with pytest.raises(ValueError, match="not the two sides of a contrast"):
        await ConstructionJudge().judge(PROMPT, COMPARISON, [KIND])
