import math

import pytest

from rlaif.engines import Reply, Request
from rlaif.errors import ConfigError
from rlaif.judging import (
    Judge,
    Salmon,
    build_judge,
    judge_comparison,
    measure_variances,
    sigmoid,
    split_agreeing,
)
from rlaif.records import Judgment
from rlaif.templates import TemplateSet
from tests.judging.fake import (
    BRIEF,
    COMPARISON,
    KIND,
    PROMPT,
    FakeEngine,
    first_is_shown_as_a,
)

SAYS = {  # (principle, shown first): log-odds of A
    ("kind", True): 3.0,
    ("kind", False): -1.0,
    ("brief", True): 2.0,
    ("brief", False): 0.5,
}


def answer(request: Request) -> Reply:
    principle = "kind" if KIND.statement in request.messages[-1]["content"] else "brief"
    p = sigmoid(SAYS[principle, first_is_shown_as_a(request)])
    return Reply(label_logprobs=(math.log(p), math.log1p(-p)))


def judge(settings: Salmon | None = None) -> Judge:
    return build_judge(
        name="main",
        method="salmon",
        engine=FakeEngine(answer),
        templates=TemplateSet.open(),
        settings=settings,
    )


async def judged(settings: Salmon | None = None) -> Judgment:
    return await judge_comparison(
        PROMPT,
        COMPARISON,
        judges=[(judge(settings), 1.0)],
        drawn=[KIND, BRIEF],
        candidates=[KIND, BRIEF],
    )


async def test_orders_that_agree_are_averaged_and_others_say_nothing() -> None:
    # kind: s12 = 3, s21 = 1 agree → 2. brief: s12 = 2, s21 = −0.5 contradict → 0, where averaging
    # would say 0.75. Pool: (σ(2) + ½)/2 = 0.6903985
    judgment = await judged()
    assert judgment.preference == pytest.approx(0.6903985)
    assert judgment.transforms == ()
    assert judgment.agreement == 0.75
    assert judgment.position_bias == pytest.approx((1.0 + 1.25) / 2)


async def test_a_principle_is_divided_by_its_variance_on_record() -> None:
    # kind: 2/4 = 0.5 → σ(0.5) = 0.6224593; brief ½. Pool 0.5612297
    judgment = await judged(Salmon(variances={"kind": 4.0}))
    assert judgment.preference == pytest.approx(0.5612297)
    assert judgment.raw_preference == pytest.approx(0.6903985)
    assert judgment.transforms == ("main/kind: temperature(4)",)


async def test_variances_are_measured_around_zero_over_judgments() -> None:
    judgment = await judged()
    # kind 2.0 in both presentations: 4; brief 0: left out.
    assert measure_variances([judgment, judgment.swap()], judge="main") == {
        "kind": pytest.approx(4.0)
    }
    assert measure_variances([judgment], judge="other") == {}


def test_an_even_order_agrees_with_neither_side() -> None:
    assert split_agreeing(2.0, 0.0).content == 0.0
    assert split_agreeing(2.0, 1.0).content == 1.5
    assert split_agreeing(-2.0, -1.0).content == -1.5
    contradiction = split_agreeing(2.0, -1.0)
    assert (contradiction.content, contradiction.bias) == (0.0, 1.5)


async def test_the_opposite_is_shown_where_the_constitution_has_one() -> None:
    engine = FakeEngine(answer)
    built = build_judge(name="main", method="salmon", engine=engine, templates=TemplateSet.open())
    await built.judge(PROMPT, COMPARISON, [KIND, BRIEF])
    kind, _, brief, _ = (request.messages[-1]["content"] for request in engine.asked)
    assert f"Not wanted: {KIND.opposite}" in kind
    assert "Not wanted" not in brief


def test_a_single_order_leaves_nothing_to_compare() -> None:
    with pytest.raises(ConfigError, match="both orders"):
        build_judge(
            name="main",
            method="salmon",
            engine=FakeEngine(answer),
            templates=TemplateSet.open(),
            orders="one",
        )


def test_it_costs_two_labels_per_comparison_and_principle() -> None:
    assert judge().cost.calls(comparisons=6, responses=4, principles=3) == 36
