import asyncio
import math
import time

import pytest

from rlaif.engines import (
    Capability,
    Generate,
    Label,
    Reply,
    Request,
    Sampling,
    Score,
    ScriptedEngine,
    open_engine,
)
from rlaif.errors import CallFailed, ConfigError, EngineError, EngineMissing
from rlaif.records import Message
from rlaif.templates import fence

PROMPT: tuple[Message, ...] = ({"role": "user", "content": "How do I boil an egg?"},)
THREE = Generate(PROMPT, Sampling(), (1, 2, 3), purpose="sample")
LABEL = Label(PROMPT, ("A", "B"), purpose="judge")


def prompts(count: int) -> list[tuple[Message, ...]]:
    return [({"role": "user", "content": f"Question {n}?"},) for n in range(count)]


def comparison(first: str, second: str) -> Label:
    shown = f"{fence('a longer conversation than both', 'user')}\n\nResponse A:\n"
    shown += f"{fence(first, 'response')}\n\nResponse B:\n{fence(second, 'response')}\n\nWhich?"
    return Label(({"role": "user", "content": shown},), ("A", "B"))


async def log_odds(engine: ScriptedEngine, request: Label) -> float:
    a, b = (await engine.ask(request))[0].label_logprobs
    assert a is not None
    assert b is not None
    return a - b


async def test_a_script_answers_once_per_seed_and_may_give_text_or_replies():
    def answer(request: Request, seed: int | None) -> Reply | str:
        return f"text {seed}" if seed != 2 else Reply("cut", finish="length")

    replies = await ScriptedEngine(answer).ask(THREE)
    assert replies == [Reply("text 1"), Reply("cut", finish="length"), Reply("text 3")]


async def test_labels_and_scores_are_asked_without_a_seed():
    seen: list[tuple[Request, int | None]] = []

    def answer(request: Request, seed: int | None) -> Reply:
        seen.append((request, seed))
        return Reply(logprob=-1.0)

    engine = ScriptedEngine(answer)
    score = Score(PROMPT, "In water.")
    await engine.ask(LABEL)
    await engine.ask(score)
    assert seen == [(LABEL, None), (score, None)]


async def test_async_answers_to_several_seeds_run_side_by_side():
    running, most = 0, 0

    async def answer(request: Request, seed: int | None) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return str(seed)

    replies = await ScriptedEngine(answer).ask(THREE)
    assert [reply.text for reply in replies] == ["1", "2", "3"]
    assert most == 3


async def test_an_exception_returned_or_raised_is_what_the_asker_gets():
    with pytest.raises(CallFailed, match="returned"):
        await ScriptedEngine(lambda *_: CallFailed("returned")).ask(LABEL)

    async def later(request: Request, seed: int | None) -> Exception:
        return CallFailed("later")

    with pytest.raises(CallFailed, match="later"):
        await ScriptedEngine(later).ask(LABEL)

    def broken(request: Request, seed: int | None) -> str:
        raise KeyError("raised")

    with pytest.raises(KeyError, match="raised"):
        await ScriptedEngine(broken).ask(LABEL)


async def test_an_answer_of_another_kind_is_a_mistake_in_the_script():
    engine = ScriptedEngine(lambda *_: 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="3"):
        await engine.ask(LABEL)


async def test_replies_are_counted_by_purpose():
    engine = ScriptedEngine(lambda *_: "x")
    await engine.ask(THREE)
    await engine.ask(LABEL)
    assert engine.asked == {"sample": 3, "judge": 1}


async def test_a_closed_script_answers_no_more():
    engine = ScriptedEngine(lambda *_: "x")
    await engine.aclose()
    with pytest.raises(EngineError, match="closed"):
        await engine.ask(LABEL)


def test_name_settings_and_options_are_its_identity_and_latency_is_not():
    def identity(model: str = "echo", **options: float) -> object:
        return open_engine("scripted", model=model, options=options).identity

    assert identity() == identity(latency_ms=5)
    assert len({str(one) for one in (identity(), identity("judge-random"), identity(noise=1))}) == 3


def test_a_script_can_do_what_it_is_told_it_can():
    only = frozenset({Capability.GENERATE})
    assert ScriptedEngine(lambda *_: "x", capabilities=only).capabilities == only
    assert ScriptedEngine(lambda *_: "x").capabilities == frozenset(Capability)
    assert Capability.STRUCTURED not in open_engine("scripted", model="echo").capabilities


async def test_echo_texts_belong_to_messages_and_seed_and_differ_in_length():
    engine = open_engine("scripted", model="echo")
    texts = [r.text for p in prompts(30) for r in await engine.ask(Generate(p, Sampling(), (1, 2)))]
    assert len(set(texts)) == 60
    lengths = {len(text.split()) for text in texts}
    assert min(lengths) < 12
    assert max(lengths) > 50
    again = open_engine("scripted", model="echo")
    assert (await again.ask(THREE)) == (await engine.ask(THREE))


async def test_echo_keeps_to_the_sampling_it_is_given():
    engine = open_engine("scripted", model="echo")
    (cut,) = await engine.ask(Generate(PROMPT, Sampling(max_tokens=2), (1,)))
    assert (len(cut.text.split()), cut.finish, cut.usage.completion_tokens) == (2, "length", 2)
    one, other = await engine.ask(Generate(PROMPT, Sampling(temperature=0), (1, 2)))
    assert one == other
    (whole,) = await engine.ask(Generate(PROMPT, Sampling(), (1,)))
    word = whole.text.split()[2]
    (stopped,) = await engine.ask(Generate(PROMPT, Sampling(stop=(word,)), (1,)))
    assert whole.text.startswith(stopped.text + word)
    assert stopped.finish == "stop"


async def test_the_longer_response_is_preferred_on_either_side():
    engine = open_engine("scripted", model="judge-longer")
    short, long = "Boil it.", "Boil it for eight minutes."
    assert isinstance(engine, ScriptedEngine)
    forward = await log_odds(engine, comparison(long, short))
    assert forward > 1.0
    assert await log_odds(engine, comparison(short, long)) == pytest.approx(-forward)
    assert await log_odds(engine, comparison(short, short)) == 0.0


async def test_without_two_fenced_texts_there_is_nothing_to_compare():
    with pytest.raises(CallFailed, match="fenced"):
        await open_engine("scripted", model="judge-longer").ask(LABEL)


async def test_position_bias_moves_the_log_odds_of_the_first_label():
    for model in ("echo", "judge-longer", "judge-random"):
        plain = open_engine("scripted", model=model)
        biased = open_engine("scripted", model=model, options={"position_bias": 1.5})
        assert isinstance(plain, ScriptedEngine)
        assert isinstance(biased, ScriptedEngine)
        request = comparison("Boil it.", "Eight minutes.")
        moved = await log_odds(biased, request) - await log_odds(plain, request)
        assert moved == pytest.approx(1.5)


async def test_noise_moves_log_odds_by_content_within_its_bounds():
    plain = open_engine("scripted", model="echo")
    noisy = open_engine("scripted", model="echo", options={"noise": 2.0})
    assert isinstance(noisy, ScriptedEngine)
    assert isinstance(plain, ScriptedEngine)
    moves = [await log_odds(noisy, Label(prompt, ("A", "B"))) for prompt in prompts(50)]
    assert max(moves) > 1.0
    assert min(moves) < -1.0
    assert all(abs(move) <= 2.0 for move in moves)
    assert moves == [await log_odds(noisy, Label(prompt, ("A", "B"))) for prompt in prompts(50)]


async def test_label_probabilities_have_the_mass_of_all_labels():
    for labels in (("A", "B"), ("1", "2", "3", "4", "5")):
        (reply,) = await open_engine("scripted", model="judge-random").ask(Label(PROMPT, labels))
        mass = sum(math.exp(value) for value in reply.label_logprobs if value is not None)
        assert mass == pytest.approx(0.98)


async def test_failures_and_refusals_come_at_their_rate_and_at_the_same_content():
    engine = open_engine(
        "scripted", model="echo", options={"failure_rate": 0.3, "refusal_rate": 0.2}
    )

    async def outcome(prompt: tuple[Message, ...]) -> str:
        try:
            return (await engine.ask(Generate(prompt, Sampling(), (1,))))[0].finish
        except CallFailed as problem:
            return problem.kind

    outcomes = [await outcome(prompt) for prompt in prompts(400)]
    assert outcomes.count("scripted") / 400 == pytest.approx(0.3, abs=0.07)
    assert outcomes.count("refusal") / 400 == pytest.approx(0.7 * 0.2, abs=0.06)
    assert outcomes == [await outcome(prompt) for prompt in prompts(400)]


async def test_latency_is_what_it_says():
    engine = open_engine("scripted", model="echo", options={"latency_ms": 30})
    start = time.monotonic()
    await engine.ask(THREE)
    assert time.monotonic() - start >= 0.029


@pytest.mark.parametrize(
    "request_", [THREE, LABEL, Score(PROMPT, "In water.")], ids=["text", "label", "score"]
)
async def test_a_call_lets_others_run(request_: Request):
    ran: list[bool] = []
    asyncio.get_running_loop().call_soon(ran.append, True)
    await open_engine("scripted", model="echo").ask(request_)
    assert ran


def test_unknown_behaviours_and_options_name_the_nearest():
    with pytest.raises(EngineMissing, match="did you mean 'judge-longer'"):
        open_engine("scripted", model="judge-long")
    with pytest.raises(ConfigError, match="did you mean 'noise'"):
        open_engine("scripted", model="echo", options={"noize": 1})
    with pytest.raises(ConfigError, match=r"options\.failure_rate"):
        open_engine("scripted", model="echo", options={"failure_rate": 1.5})
