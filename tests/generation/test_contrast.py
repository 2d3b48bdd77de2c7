from typing import Any

from rlaif.constitution import Principle
from rlaif.engines import Generate, Reply, Sampling, request_key
from rlaif.errors import CallFailed
from rlaif.generation import ContrastSampler
from rlaif.records import Prompt
from rlaif.templates import TemplateSet
from tests.generation.fake import FakeEngine

PROMPT = Prompt.build("How long does an egg take?", id="egg", tags=("cooking",))
PRINCIPLES = tuple(
    Principle(id=name, statement=f"Be {name}.", opposite=f"Never be {name}.")
    for name in ("brief", "kind", "honest")
)


def by_seed(request: Generate, seed: int) -> Reply:
    return Reply(text=f"text {seed}")


def sampler(answer: Any = by_seed, **options: Any) -> ContrastSampler:
    settings = {"principles": PRINCIPLES, "seed": 7, **options}
    return ContrastSampler(
        engine=FakeEngine(answer),
        template=TemplateSet.open().get("sample/contrast"),
        sampling=Sampling(max_tokens=64),
        **settings,
    )


def requests(contrast: ContrastSampler) -> list[Generate]:
    assert isinstance(contrast.engine, FakeEngine)
    return contrast.engine.requests


async def test_each_couple_is_sampled_for_and_against_one_principle() -> None:
    contrast = sampler()
    responses, failures = await contrast.sample(PROMPT, n=6)
    assert failures == ()
    assert [(r.origin, r.index) for r in responses] == [
        (side, index) for index in range(3) for side in ("contrast-for", "contrast-against")
    ]
    for index in range(3):
        principle = contrast.principle(PROMPT, index)
        assert principle is not None
        kept, broken = requests(contrast)[2 * index : 2 * index + 2]
        assert kept.messages[1:] == broken.messages[1:] == PROMPT.messages
        good, bad = (request.messages[0]["content"] for request in (kept, broken))
        assert good.endswith(principle.statement)
        assert bad == good.replace(principle.statement, principle.opposite)


async def test_the_affix_is_not_stored() -> None:
    contrast = sampler()
    responses, _ = await contrast.sample(PROMPT, n=2)
    assert {r.prompt_id for r in responses} == {PROMPT.id}
    keys = [
        request_key(contrast.engine.identity, request, request.seeds[0])
        for request in requests(contrast)
    ]
    assert [r.call for r in responses] == keys


async def test_the_students_own_system_message_comes_before_the_affix() -> None:
    contrast = sampler(system="You cook.")
    await contrast.sample(PROMPT, n=2)
    assert (
        requests(contrast)[0].messages[0]["content"].startswith("You cook.\n\nYou are an assistant")
    )


async def test_draws_depend_on_content_alone_and_reach_every_principle() -> None:
    few, _ = await sampler().sample(PROMPT, n=2)
    many, _ = await sampler().sample(PROMPT, n=40)
    assert many[:2] == few
    drawn = {sampler().principle(PROMPT, index) for index in range(20)}
    assert drawn == set(PRINCIPLES)


async def test_a_side_that_fails_leaves_the_other() -> None:
    def answer(request: Generate, seed: int) -> Reply:
        if "Never be" in request.messages[0]["content"]:
            raise CallFailed("no", kind="http-500", attempts=3)
        return Reply(text="fine")

    responses, failures = await sampler(answer).sample(PROMPT, n=4)
    assert [r.origin for r in responses] == ["contrast-for"] * 2
    assert [(f.kind, f.attempts) for f in failures] == [("http-500", 3)] * 2


async def test_a_prompt_that_no_principle_applies_to_is_one_failure() -> None:
    elsewhere = tuple(p.model_copy(update={"applies_to": ("red-team",)}) for p in PRINCIPLES)
    responses, (failure,) = await sampler(principles=elsewhere).sample(PROMPT, n=4)
    assert responses == ()
    assert (failure.stage, failure.kind) == ("sample", "no-principle")
