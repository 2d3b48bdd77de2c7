import math

import pytest

from rlaif.engines import Reply, Request, Score, request_key
from rlaif.errors import CallFailed
from rlaif.judging import Contrast, Judge, build_judge, contrast_logit
from rlaif.records import Choice, Order, Prompt
from rlaif.templates import TemplateSet
from tests.judging.fake import BRIEF, COMPARISON, FIRST, KIND, PROMPT, SECOND, FakeEngine, always

LOGPROBS = {  # (response, under the opposite): summed log-probability, tokens
    (FIRST.text, False): (-10.0, 4),
    (FIRST.text, True): (-25.0, 4),
    (SECOND.text, False): (-30.0, 10),
    (SECOND.text, True): (-32.0, 10),
}


def scored(request: Request) -> Reply:
    assert isinstance(request, Score)
    against = "rude" in request.messages[0]["content"]
    logprob, tokens = LOGPROBS[request.continuation, against]
    return Reply(logprob=logprob, scored_tokens=tokens)


def judge(engine: FakeEngine, contrast: Contrast | None = None) -> Judge:
    return build_judge(
        name="main",
        method="contrast",
        engine=engine,
        templates=TemplateSet.open(),
        settings=contrast,
    )


async def test_the_ratio_of_likelihoods_becomes_log_odds() -> None:
    # R = [−10 − (−25)] − [−30 − (−32)] = 15 − 2 = 13; 0.2 · 13 = 2.6
    (verdict,) = await judge(FakeEngine(scored)).judge(PROMPT, COMPARISON, [KIND])
    assert (verdict.order, verdict.choice, verdict.scores) == (Order.NONE, Choice.A, (15.0, 2.0))
    assert verdict.logit == pytest.approx(2.6)


async def test_the_ratio_is_clamped_before_it_is_scaled() -> None:
    small = judge(FakeEngine(scored), Contrast(scale=0.5, clamp=4.0))
    (verdict,) = await small.judge(PROMPT, COMPARISON.swap(), [KIND])
    assert verdict.logit == pytest.approx(-2.0)  # 0.5 · clamp(−13, ±4)
    assert verdict.scores == (2.0, 15.0)  # as read, before the clamp


async def test_per_token_divides_each_by_its_own_length() -> None:
    # R = [−2.5 + 6.25] − [−3.0 + 3.2] = 3.75 − 0.2 = 3.55; · 0.2 = 0.71
    (verdict,) = await judge(FakeEngine(scored), Contrast(per_token=True)).judge(
        PROMPT, COMPARISON, [KIND]
    )
    assert verdict.logit == pytest.approx(0.71)


async def test_the_wish_is_the_system_message_and_the_conversation_follows() -> None:
    engine = FakeEngine(scored)
    (verdict,) = await judge(engine).judge(PROMPT, COMPARISON, [KIND])
    systems = [request.messages[0] for request in engine.asked]
    assert all(message["role"] == "system" for message in systems)
    assert ["Be kind." in message["content"] for message in systems] == [True, False, True, False]
    assert ["Be rude." in message["content"] for message in systems] == [False, True, False, True]
    assert all(request.messages[1:] == PROMPT.messages for request in engine.asked)
    assert verdict.calls == tuple(request_key(engine.identity, r) for r in engine.asked)


async def test_the_prompts_own_system_message_stays() -> None:
    engine = FakeEngine(scored)
    own = Prompt.build([{"role": "system", "content": "Own."}, *PROMPT.messages], id="egg")
    await judge(engine).judge(own, COMPARISON, [KIND])
    assert engine.asked[0].messages[0]["content"].endswith("Be kind.\n\nOwn.")


async def test_calls_about_one_response_are_the_same_in_every_comparison() -> None:
    engine = FakeEngine(scored)
    contrast = judge(engine)
    (straight,) = await contrast.judge(PROMPT, COMPARISON, [KIND])
    (swapped,) = await contrast.judge(PROMPT, COMPARISON.swap(), [KIND])
    assert swapped.calls == (*straight.calls[2:], *straight.calls[:2])


async def test_a_principle_without_an_opposite_gets_one_by_wording() -> None:
    engine = FakeEngine(always(Reply(logprob=-1.0)))
    await judge(engine).judge(PROMPT, COMPARISON, [BRIEF])
    for_it, against = (request.messages[0]["content"] for request in engine.asked[:2])
    assert for_it.endswith("this: Be brief.")
    assert against.endswith("this: Do the contrary of what follows. Be brief.")


async def test_several_principles_keep_their_verdicts_apart() -> None:
    engine = FakeEngine(lambda r: Reply(logprob=-1.0) if "brief" in str(r.messages) else scored(r))
    verdicts = await judge(engine).judge(PROMPT, COMPARISON, [BRIEF, KIND])
    assert [(v.principle, v.choice) for v in verdicts] == [
        ("brief", Choice.TIE),
        ("kind", Choice.A),
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Reply(), "unreadable"),
        (Reply(logprob=-math.inf), "unreadable"),
        (Reply(logprob=math.nan), "unreadable"),
        (Reply(logprob=-3.0, finish="refusal"), "refused"),
        (CallFailed("no", kind="http-500"), "failed"),
    ],
)
async def test_one_score_that_is_missing_makes_the_verdict_an_abstention(
    bad: Reply | CallFailed, reason: str
) -> None:
    def answer(request: Request) -> Reply:
        if len(engine.asked) == 3:
            if isinstance(bad, CallFailed):
                raise bad
            return bad
        return scored(request)

    engine = FakeEngine(answer)
    (verdict,) = await judge(engine).judge(PROMPT, COMPARISON, [KIND])
    assert (verdict.choice, verdict.logit, verdict.scores) == (Choice.ABSTAIN, None, None)
    assert verdict.reason == reason
    assert verdict.raw == ("http-500: no" if reason == "failed" else "")


async def test_per_token_without_a_token_count_abstains() -> None:
    engine = FakeEngine(always(Reply(logprob=-1.0)))
    contrast = judge(engine, Contrast(per_token=True))
    (verdict,) = await contrast.judge(PROMPT, COMPARISON, [KIND])
    assert verdict.reason == "unreadable"


def test_contrast_logit_is_antisymmetric() -> None:
    assert contrast_logit(3.0, 1.0, scale=0.2, clamp=40.0) == pytest.approx(0.4)
    assert contrast_logit(1.0, 3.0, scale=0.2, clamp=40.0) == pytest.approx(-0.4)
    assert contrast_logit(100.0, 0.0, scale=0.2, clamp=40.0) == pytest.approx(8.0)
