import pytest

from rlaif.engines import Capability, Generate, Reply, Sampling, Usage, request_key
from rlaif.errors import CallFailed, EngineUnavailable
from rlaif.generation import sample_responses
from rlaif.records import Prompt
from tests.generation.fake import GENERATE, FakeEngine

SAMPLES = GENERATE | {Capability.SAMPLES}
SAMPLING = Sampling(temperature=0.7)
PROMPT = Prompt.build("How long does an egg take?", id="egg")


def by_seed(request: Generate, seed: int) -> Reply:
    return Reply(text=f"text {seed}", usage=Usage(completion_tokens=3))


async def test_n_samples_come_back_with_their_ledger_keys() -> None:
    engine = FakeEngine(by_seed, SAMPLES)
    responses, failures = await sample_responses(engine, PROMPT, n=3, sampling=SAMPLING, seed=7)
    assert failures == ()
    assert [r.index for r in responses] == [0, 1, 2]
    assert len({r.text for r in responses}) == 3
    assert {r.prompt_id for r in responses} == {"egg"}
    assert [r.tokens for r in responses] == [3, 3, 3]
    (request,) = engine.requests
    keys = [request_key(engine.identity, request, seed) for seed in request.seeds]
    assert [r.call for r in responses] == keys


async def test_an_engine_without_samples_is_called_once_per_seed_with_the_same_result() -> None:
    together, apart = FakeEngine(by_seed, SAMPLES), FakeEngine(by_seed)
    one = await sample_responses(together, PROMPT, n=4, sampling=SAMPLING, seed=7)
    two = await sample_responses(apart, PROMPT, n=4, sampling=SAMPLING, seed=7)
    assert one == two
    assert (len(together.requests), len(apart.requests)) == (1, 4)


async def test_a_sample_does_not_depend_on_how_many_are_drawn_or_on_the_prompts_id() -> None:
    few, _ = await sample_responses(FakeEngine(by_seed), PROMPT, n=2, sampling=SAMPLING, seed=7)
    other = Prompt.build(PROMPT.text, id="another")
    many, _ = await sample_responses(FakeEngine(by_seed), other, n=5, sampling=SAMPLING, seed=7)
    assert [r.text for r in many[:2]] == [r.text for r in few]
    assert [r.call for r in many[:2]] == [r.call for r in few]


async def test_another_seed_draws_other_samples() -> None:
    one, _ = await sample_responses(FakeEngine(by_seed), PROMPT, n=2, sampling=SAMPLING, seed=7)
    two, _ = await sample_responses(FakeEngine(by_seed), PROMPT, n=2, sampling=SAMPLING, seed=8)
    assert not {r.text for r in one} & {r.text for r in two}


async def test_one_failing_sample_does_not_lose_the_rest() -> None:
    engine = FakeEngine(by_seed)
    await sample_responses(engine, PROMPT, n=3, sampling=SAMPLING, seed=7)
    bad = engine.requests[1].seeds[0]

    def answer(request: Generate, seed: int) -> Reply:
        if seed == bad:
            raise CallFailed("too long", kind="context-length", attempts=2)
        return by_seed(request, seed)

    responses, failures = await sample_responses(
        FakeEngine(answer), PROMPT, n=3, sampling=SAMPLING, seed=7
    )
    assert [r.index for r in responses] == [0, 2]
    (failure,) = failures
    assert (failure.stage, failure.record_id, failure.kind, failure.attempts) == (
        "sample",
        "egg",
        "context-length",
        2,
    )


async def test_a_failed_call_for_all_samples_counts_each() -> None:
    def fail(request: Generate, seed: int) -> Reply:
        raise CallFailed("no", kind="http-500")

    responses, failures = await sample_responses(
        FakeEngine(fail, SAMPLES), PROMPT, n=3, sampling=SAMPLING, seed=7
    )
    assert responses == ()
    assert [f.kind for f in failures] == ["http-500"] * 3


async def test_missing_samples_are_counted_as_failures() -> None:
    class Short(FakeEngine):
        async def ask(self, request):
            return list(await super().ask(request))[:1]

    responses, failures = await sample_responses(
        Short(by_seed, SAMPLES), PROMPT, n=3, sampling=SAMPLING, seed=7
    )
    assert len(responses) == 1
    assert [f.kind for f in failures] == ["missing-sample", "missing-sample"]


async def test_blank_text_is_a_failure_and_a_servers_refusal_is_kept() -> None:
    def answer(request: Generate, seed: int) -> Reply:
        index = engine.requests.index(request)
        return [Reply(text=" \n"), Reply(finish="refusal"), Reply(text="a", finish="length")][index]

    engine = FakeEngine(answer)
    responses, failures = await sample_responses(engine, PROMPT, n=3, sampling=SAMPLING, seed=7)
    assert [(r.index, r.text, r.finish) for r in responses] == [
        (1, "", "refusal"),
        (2, "a", "length"),
    ]
    assert [f.kind for f in failures] == ["empty"]


async def test_a_dead_server_raises_engine_unavailable() -> None:
    def die(request: Generate, seed: int) -> Reply:
        raise EngineUnavailable("gone")

    with pytest.raises(EngineUnavailable, match="gone"):
        await sample_responses(FakeEngine(die), PROMPT, n=3, sampling=SAMPLING, seed=7)


async def test_the_system_message_goes_first_and_joins_the_prompts_own() -> None:
    engine = FakeEngine(by_seed)
    await sample_responses(engine, PROMPT, n=1, sampling=SAMPLING, seed=7, system="Be kind.")
    own = Prompt.build([{"role": "system", "content": "Own."}, {"role": "user", "content": "Hi"}])
    await sample_responses(engine, own, n=1, sampling=SAMPLING, seed=7, system="Be kind.")
    assert engine.requests[0].messages == (
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": PROMPT.text},
    )
    assert engine.requests[1].messages[0] == {"role": "system", "content": "Be kind.\n\nOwn."}
    assert len(engine.requests[1].messages) == 2
    assert own.with_system("") == own.messages


async def test_the_purpose_is_passed_on_and_changes_no_sample() -> None:
    engine = FakeEngine(by_seed)
    one, _ = await sample_responses(engine, PROMPT, n=1, sampling=SAMPLING, seed=7)
    two, _ = await sample_responses(
        engine, PROMPT, n=1, sampling=SAMPLING, seed=7, purpose="evaluate"
    )
    assert one == two
    assert [request.purpose for request in engine.requests] == ["sample", "evaluate"]


async def test_a_lone_surrogate_is_replaced_before_the_response_gets_an_id() -> None:
    engine = FakeEngine(lambda *_: Reply(text="an egg \ud83d"))
    (response,), failures = await sample_responses(engine, PROMPT, n=1, sampling=SAMPLING, seed=7)
    assert (response.text, failures) == ("an egg \ufffd", ())
