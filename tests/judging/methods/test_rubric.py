import math
from typing import Any

import pytest

from rlaif.constitution import Principle
from rlaif.engines import Label, Reply, Request
from rlaif.errors import CallFailed
from rlaif.judging import (
    Judge,
    Rubric,
    aggregate_verdicts,
    build_judge,
    judge_comparison,
    sigmoid,
)
from rlaif.judging.methods.rubric import proposition
from rlaif.judging.reading import choose
from rlaif.records import Choice, Judgment, Order, Verdict
from rlaif.templates import TemplateSet
from tests.judging.fake import BRIEF, COMPARISON, FIRST, KIND, PROMPT, FakeEngine

YES = {  # (first response, against): log-odds of yes, with a leaning of +2 towards yes in all
    (True, False): 3.0,
    (True, True): 1.0,
    (False, False): 1.0,
    (False, True): 3.0,
}


def odds(logit: float) -> Reply:
    p = sigmoid(logit)
    return Reply(label_logprobs=(math.log(p), math.log1p(-p)))


def answer(request: Request) -> Reply:
    words = request.messages[-1]["content"]
    return odds(YES[FIRST.text in words, "go against" in words])


def judge(engine: FakeEngine, settings: Rubric | None = None) -> Judge:
    return build_judge(
        name="main",
        method="rubric",
        engine=engine,
        templates=TemplateSet.open(),
        settings=settings,
    )


async def test_the_difference_of_propositions_becomes_log_odds() -> None:
    # first: (3 − 1)/2 = 1 → φ = σ(1); second: (1 − 3)/2 = −1 → φ = σ(−1); the +2 cancels.
    # 4·(0.731059 − 0.268941) = 1.848469
    engine = FakeEngine(answer)
    (verdict,) = await judge(engine).judge(PROMPT, COMPARISON, [KIND])
    assert verdict.scores == pytest.approx((0.7310586, 0.2689414))
    assert verdict.logit == pytest.approx(1.8484686)
    assert (verdict.choice, verdict.order) == (Choice.A, Order.NONE)
    assert len(engine.asked) == len(verdict.calls) == 4
    assert {r.labels for r in engine.asked if isinstance(r, Label)} == {("Yes", "No")}


async def test_a_judge_that_says_yes_to_everything_says_nothing() -> None:
    (verdict,) = await judge(FakeEngine(lambda _: odds(6.0))).judge(PROMPT, COMPARISON, [KIND])
    assert verdict.scores == (0.5, 0.5)
    assert (verdict.logit, verdict.choice) == (0.0, Choice.TIE)


async def test_a_single_polarity_is_half_the_calls_and_keeps_the_leaning() -> None:
    engine = FakeEngine(answer)
    single = judge(engine, Rubric(both_polarities=False))
    (verdict,) = await single.judge(PROMPT, COMPARISON, [KIND])
    assert verdict.scores == pytest.approx((sigmoid(3.0), sigmoid(1.0)))
    assert len(engine.asked) == 2
    assert (single.cost.labels, judge(engine).cost.labels) == (1, 2)
    assert judge(engine).cost.calls(comparisons=6, responses=4, principles=5) == 40


async def test_propositions_of_one_judge_are_a_weighted_sum_before_they_are_a_probability() -> None:
    # KIND: Δφ = 0.4621172 as above. BRIEF turned round: Δφ = −0.4621172.
    # weights 3 and 1, relative to their mean 1.5 and 0.5: 4·(1.5 − 0.5)·0.4621172 = 1.8484686
    # averaged: half of it, 0.9242343
    kind = KIND.model_copy(update={"weight": 3.0})

    def both(request: Request) -> Reply:
        words = request.messages[-1]["content"]
        first = (FIRST.text in words) is (kind.statement in words)
        return odds(YES[first, "go against" in words])

    for settings, logit in ((Rubric(), 1.8484686), (Rubric(combine="mean"), 0.9242343)):
        judgment = await judge_comparison(
            PROMPT,
            COMPARISON,
            judges=[(judge(FakeEngine(both), settings), 0.7)],
            drawn=[kind, BRIEF],
            candidates=[kind, BRIEF],
        )
        assert judgment.preference == pytest.approx(sigmoid(logit), abs=1e-6)
        assert judgment.raw_preference == pytest.approx(sigmoid(logit), abs=1e-6)
        assert judgment.agreement == 0.5


def part(logit: float | None, number: int) -> Verdict:
    choice = Choice.ABSTAIN if logit is None else choose(logit)
    return Verdict("main", "rubric", f"p{number}", Order.NONE, choice, logit=logit)


def summed(*logits: float | None, **more: Any) -> Judgment:
    verdicts = [part(logit, number) for number, logit in enumerate(logits)]
    return aggregate_verdicts(COMPARISON, verdicts, **{"summed": ["main"], **more})


def test_one_of_twenty_propositions_that_differs_fully_decides() -> None:
    logits = [4.0, *[0.0] * 19]  # scale 4, φ 1 and 0
    assert summed(*logits).preference == pytest.approx(0.9820138)  # σ(4)
    assert summed(*logits, summed=()).preference == pytest.approx(0.5498340)  # σ(4/20)


def test_the_cap_holds_the_sum_and_no_part_of_it() -> None:
    # A factor of 15 on one proposition, which others contradict: 15 − 4 − 4 = 7, not 10 − 8 = 2.
    assert summed(15.0, -4.0, -4.0).preference == pytest.approx(sigmoid(7.0))
    assert summed(15.0, -4.0, -4.0).transforms == ()
    far = summed(*[4.0] * 5)
    assert far.preference == pytest.approx(sigmoid(10.0))
    assert far.raw_preference == pytest.approx(sigmoid(20.0), abs=1e-12)
    assert far.transforms == ("cap-logit(10)",)


def test_a_proposition_that_abstains_adds_nothing_and_makes_no_other_heavier() -> None:
    assert summed(4.0, None, None).preference == pytest.approx(sigmoid(4.0))
    heavy = {("main", "p0"): 1.0, ("main", "p1"): 3.0}  # relative to their mean: 0.5 and 1.5
    assert summed(4.0, None, weights=heavy).preference == pytest.approx(sigmoid(2.0))


def test_weights_that_are_all_ten_times_as_large_are_the_same() -> None:
    small = {("main", f"p{n}"): 1.0 + n for n in range(3)}
    large = {source: 10.0 * weight for source, weight in small.items()}
    one, other = (summed(1.0, -2.0, 0.5, weights=some) for some in (small, large))
    assert one.preference == pytest.approx(other.preference)
    assert one.preference == pytest.approx(sigmoid(0.5 * 1.0 - 2.0 + 1.5 * 0.5))


def test_a_rubric_beside_another_judge_is_one_voice_with_its_weight() -> None:
    other = Verdict("other", "pointwise", "p0", Order.NONE, Choice.B, logit=-1.0)
    verdicts = [part(2.0, 0), part(2.0, 1), other]
    judgment = aggregate_verdicts(COMPARISON, verdicts, summed=["main"])
    assert judgment.preference == pytest.approx((2 * sigmoid(4.0) + sigmoid(-1.0)) / 3)


async def test_fitted_weights_of_any_sign_are_factors_on_the_difference() -> None:
    turned = judge(FakeEngine(answer), Rubric(scale=2.0, weights={"kind": -1.5}))
    (verdict,) = await turned.judge(PROMPT, COMPARISON, [KIND])
    assert verdict.logit == pytest.approx(-3.0 * 0.4621172)
    assert verdict.choice is Choice.B


async def test_one_missing_answer_makes_the_proposition_unknown_and_no_other() -> None:
    def fails(request: Request) -> Reply:
        words = request.messages[-1]["content"]
        if "go against" in words and BRIEF.statement in words:
            raise CallFailed("no", kind="http-500")
        return odds(1.0)

    kind, brief = await judge(FakeEngine(fails)).judge(PROMPT, COMPARISON, [KIND, BRIEF])
    assert kind.choice is Choice.TIE
    assert (brief.choice, brief.reason, brief.scores) == (Choice.ABSTAIN, "failed", None)


async def test_every_question_about_a_response_shares_all_before_it() -> None:
    engine = FakeEngine(answer)
    principles = [KIND, Principle(id="clear", statement="Be clear.")]
    await judge(engine).judge(PROMPT, COMPARISON, principles)
    about_first = [r.messages for r in engine.asked if FIRST.text in r.messages[-1]["content"]]
    heads = {(m[0]["content"], m[-1]["content"].partition("Does the")[0]) for m in about_first}
    assert len(about_first) == 4
    assert len(heads) == 1


def test_a_leaning_that_both_answers_share_cancels() -> None:
    assert proposition([2.0 + 5.0, -2.0 + 5.0]) == pytest.approx(sigmoid(2.0))
    assert proposition([2.0]) == pytest.approx(sigmoid(2.0))
