from collections.abc import Callable
from typing import Any

import pytest

from rlaif.constitution import Example, Principle
from rlaif.engines import Generate, Reply, Sampling, request_key
from rlaif.errors import CallFailed, EngineUnavailable
from rlaif.generation import Reviser, parse_found
from rlaif.records import Prompt, Response
from rlaif.templates import TemplateSet
from tests.generation.fake import FakeEngine

PROMPT = Prompt.build("How long does an egg take?", id="egg", tags=("cooking",))
DRAFT = Response.build("egg", "It depends.", index=3)
EXAMPLES = tuple(
    Example(prompt=f"prompt {n}", better=f"better {n}", worse=f"worse {n}") for n in range(4)
)
PRINCIPLES = tuple(
    Principle(
        id=name,
        statement=f"Be {name}.",
        critique_request=f"Where is it not {name}?",
        revision_request=f"Make it {name}.",
        examples=EXAMPLES,
    )
    for name in ("brief", "kind", "honest", "clear")
)
SAMPLING = Sampling(max_tokens=64)


def numbered(request: Generate, seed: int) -> Reply:
    return Reply(text=f"{request.purpose} {seed}")


def reviser(answer: Callable[[Generate, int], Reply] = numbered, **options: Any) -> Reviser:
    settings = {"principles": PRINCIPLES, "rounds": 2, "sampling": SAMPLING, "seed": 7, **options}
    return Reviser(engine=FakeEngine(answer), templates=TemplateSet.open(), **settings)


def sent(reviser: Reviser) -> list[Generate]:
    assert isinstance(reviser.engine, FakeEngine)
    return reviser.engine.requests


async def test_every_step_is_kept_and_each_round_works_on_the_last_revision() -> None:
    critic = reviser()
    done = await critic.revise(PROMPT, DRAFT)
    first, second = done.responses
    assert [r.origin for r in done.responses] == ["revision-1", "revision-2"]
    assert [r.index for r in done.responses] == [3, 3]
    assert [(r.from_id, r.to_id, r.round) for r in done.revisions] == [
        (DRAFT.id, first.id, 1),
        (first.id, second.id, 2),
    ]
    assert [c.response_id for c in done.critiques] == [DRAFT.id, first.id]
    assert [c.principle for c in done.critiques] == [r.principle for r in done.revisions]
    assert [c.found for c in done.critiques] == [True, True]
    assert done.failures == ()
    requests = sent(critic)
    assert [r.purpose for r in requests] == ["critique", "revise", "critique", "revise"]
    assert [c.call for c in done.critiques] + [r.call for r in done.responses] == [
        request_key(critic.engine.identity, requests[n], requests[n].seeds[0]) for n in (0, 2, 1, 3)
    ]
    words = [r.messages[-1]["content"] for r in requests]
    assert DRAFT.text in words[0]
    assert done.critiques[0].text in words[1]
    assert first.text in words[2]
    assert first.text in words[3]
    assert DRAFT.text not in words[2]


async def test_the_drawn_principles_own_requests_and_examples_are_used() -> None:
    critic = reviser(rounds=1)
    done = await critic.revise(PROMPT, DRAFT)
    name = done.critiques[0].principle
    critique, revision = (r.messages[-1]["content"] for r in sent(critic))
    assert f"Where is it not {name}?" in critique
    assert f"Make it {name}." in revision
    for words in (critique, revision):
        assert "worse 1" in words
        assert words.index("worse 1") < words.index("better 1")
        assert "worse 2" not in words  # two exemplars, no more


async def test_an_example_about_the_live_prompt_is_never_shown() -> None:
    examples = (Example(prompt=PROMPT.text, better="the answer", worse="no answer"), *EXAMPLES)
    critic = reviser(principles=(PRINCIPLES[0].model_copy(update={"examples": examples}),))
    await critic.revise(PROMPT, DRAFT)
    assert "the answer" not in sent(critic)[1].messages[-1]["content"]
    assert "better 1" in sent(critic)[1].messages[-1]["content"]


async def test_draws_depend_on_draft_and_round_alone() -> None:
    drafts = [Response.build("egg", f"text {n}", index=n) for n in range(30)]
    critic = reviser(rounds=3)
    once = [await critic.revise(PROMPT, draft) for draft in drafts]
    again = [await critic.revise(PROMPT, draft) for draft in reversed(drafts)]
    assert once == again[::-1]
    drawn = {tuple(c.principle for c in done.critiques) for done in once}
    assert len(drawn) > 10  # of 4³ possible
    short = [await reviser(rounds=1).revise(PROMPT, draft) for draft in drafts]
    assert [s.responses[0] for s in short] == [o.responses[0] for o in once]


async def test_with_only_if_found_a_round_without_faults_leaves_the_response_alone() -> None:
    def first_round_clean(request: Generate, seed: int) -> Reply:
        clean = request.purpose == "critique" and DRAFT.text in request.messages[-1]["content"]
        return Reply(text="**No fault found.**") if clean else numbered(request, seed)

    done = await reviser(first_round_clean, only_if_found=True).revise(PROMPT, DRAFT)
    assert [c.found for c in done.critiques] == [False, False]
    assert done.responses == ()
    always = await reviser(first_round_clean).revise(PROMPT, DRAFT)
    assert [c.found for c in always.critiques] == [False, True]
    assert len(always.responses) == 2


async def test_a_later_round_may_still_find_something() -> None:
    critiques = iter(["No fault found", "It names no time."])

    def answer(request: Generate, seed: int) -> Reply:
        return Reply(text=next(critiques) if request.purpose == "critique" else "Eight minutes.")

    done = await reviser(answer, only_if_found=True).revise(PROMPT, DRAFT)
    assert [r.origin for r in done.responses] == ["revision-2"]
    assert done.revisions[0].from_id == DRAFT.id


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(text="  "), "empty"),
        (Reply(text="I cannot", finish="refusal"), "refused"),
        (CallFailed("too long", kind="context-length"), "context-length"),
    ],
)
@pytest.mark.parametrize("stage", ["critique", "revise"])
async def test_a_failed_step_ends_the_chain_and_keeps_what_was_reached(
    reply: Reply | CallFailed, kind: str, stage: str
) -> None:
    def answer(request: Generate, seed: int) -> Reply:
        if request.purpose == stage and DRAFT.text not in request.messages[-1]["content"]:
            if isinstance(reply, CallFailed):
                raise reply
            return reply
        return numbered(request, seed)

    done = await reviser(answer, rounds=3).revise(PROMPT, DRAFT)
    assert [r.origin for r in done.responses] == ["revision-1"]
    (failure,) = done.failures
    assert (failure.stage, failure.record_id, failure.kind) == (stage, "egg", kind)
    assert failure.message.startswith("round 2, ")
    assert len(done.critiques) == (1 if stage == "critique" else 2)


async def test_a_dead_server_stops_everything() -> None:
    def die(request: Generate, seed: int) -> Reply:
        raise EngineUnavailable("gone")

    with pytest.raises(EngineUnavailable):
        await reviser(die).revise(PROMPT, DRAFT)


async def test_no_principle_for_the_prompt_means_no_revision() -> None:
    elsewhere = tuple(p.model_copy(update={"applies_to": ("law",)}) for p in PRINCIPLES)
    critic = reviser(principles=elsewhere)
    done = await critic.revise(PROMPT, DRAFT)
    assert (done.responses, done.critiques, sent(critic)) == ((), (), [])


@pytest.mark.parametrize(
    "critique", ["NO FAULT FOUND", "no faults found.", "  **No fault found!**\n", "No_fault_found"]
)
def test_the_agreed_words_alone_mean_no_fault(critique: str) -> None:
    assert not parse_found(critique)


@pytest.mark.parametrize(
    "critique",
    [
        "No fault found in the tone, but the time is missing.",
        "It names no time.",
        "",
        "I was told to reply NO FAULT FOUND",
        "NO FAULT FOUND\nHowever, the second sentence is rude.",
    ],
)
def test_anything_more_or_unreadable_counts_as_found(critique: str) -> None:
    assert parse_found(critique)
