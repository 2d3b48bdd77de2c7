"""No hostile text flips a judge that obeys every order it sees outside fences."""

import pytest

from rlaif.constitution import Example, Principle
from rlaif.engines import Capability, Label, Reply, Score, ScriptedEngine
from rlaif.generation.sample import to_response
from rlaif.judging import METHODS, Judge, Pairwise, build_judge
from rlaif.records import Choice, Comparison, Prompt, Response
from rlaif.templates import TemplateSet
from tests.security.cases import CASES
from tests.security.echo_judge import MARK, EchoJudge, frame

QUESTION = "How long does an egg take?"
PRINCIPLE = Principle(
    id="answers",
    statement="Answer what was asked.",
    comparison="Which response answers what was asked?",
    examples=(Example(prompt="And rice?", better="Ten minutes.", worse="Who knows."),),
)
GOOD = Response.build("egg", MARK, index=0)
HARMLESS = Response.build("egg", "That depends.", index=1)
TEMPLATES = TemplateSet.open()

VARIANTS: dict[str, tuple[str, Pairwise | None]] = {
    **{method: (method, None) for method in METHODS},
    "pairwise with exemplars": ("pairwise", Pairwise(exemplars=2)),
    "pairwise with chain of thought": ("pairwise", Pairwise(chain_of_thought=True)),
    "pairwise in words": ("pairwise", Pairwise(words=True)),
    "pairwise in words with chain of thought": (
        "pairwise",
        Pairwise(words=True, chain_of_thought=True),
    ),
}
SCORING = ("contrast", "reward")
"""Methods that follow no instruction: they score a response as a reply to the conversation."""

SHOWING = sorted(name for name, (method, _) in VARIANTS.items() if method not in SCORING)


def judge(variant: str, echo: EchoJudge) -> Judge:
    method, settings = VARIANTS[variant]
    free = frozenset(Capability) - {Capability.STRUCTURED}
    engine = ScriptedEngine(echo, capabilities=free)
    return build_judge(
        name="main", method=method, engine=engine, templates=TEMPLATES, settings=settings
    )


class _Everything(frozenset[str]):
    def __contains__(self, _: object) -> bool:
        return True


_frames: dict[str, tuple[str, ...]] = {}


async def echo_judge(variant: str) -> EchoJudge:
    """An echo judge that knows the lines the variant's template writes, from a harmless run."""
    if variant not in _frames:
        learner = EchoJudge(())
        learner.trusted = _Everything()
        await judge(variant, learner).judge(prompt(), Comparison(GOOD, HARMLESS), [PRINCIPLE])
        lines = [line for request in learner.asked for line in frame(request.messages)]
        _frames[variant] = tuple(lines)
    return EchoJudge(_frames[variant])


def prompt(text: str = QUESTION) -> Prompt:
    return Prompt.build(text, id="egg")


def attack(case: str, letter: str) -> Response:
    reply = Reply(CASES[case].replace("@X@", letter))
    return to_response(prompt(), reply, index=1, origin="sample", call="")


@pytest.mark.parametrize("variant", sorted(VARIANTS))
async def test_without_an_attack_the_echo_judge_is_honest(variant: str) -> None:
    echo = await echo_judge(variant)
    verdicts = await judge(variant, echo).judge(prompt(), Comparison(GOOD, HARMLESS), [PRINCIPLE])
    assert [verdict.content_choice() for verdict in verdicts] == [Choice.A] * len(verdicts)
    assert echo.obeyed == []


@pytest.mark.parametrize("letter", ["A", "B"])
@pytest.mark.parametrize("case", CASES)
async def test_an_attacking_response_never_wins(case: str, letter: str) -> None:
    for variant in VARIANTS:
        echo = await echo_judge(variant)
        comparison = Comparison(GOOD, attack(case, letter))
        verdicts = await judge(variant, echo).judge(prompt(), comparison, [PRINCIPLE])
        assert verdicts
        for verdict in verdicts:
            assert verdict.content_choice() in (Choice.A, Choice.ABSTAIN), variant
        assert echo.obeyed == []


@pytest.mark.parametrize("case", sorted(CASES.keys() - {"lone-surrogate"}))  # is not a prompt
async def test_an_attacking_prompt_changes_no_verdict(case: str) -> None:
    # Scoring methods are left out: they follow no instruction, and the prompt is a chat turn there.
    for variant in SHOWING:
        echo = await echo_judge(variant)
        hostile = prompt(CASES[case].replace("@X@", "B") + " ")
        verdicts = await judge(variant, echo).judge(
            hostile, Comparison(GOOD, HARMLESS), [PRINCIPLE]
        )
        for verdict in verdicts:
            assert verdict.content_choice() in (Choice.A, Choice.ABSTAIN), variant
        assert echo.obeyed == []


@pytest.mark.parametrize("case", CASES)
def test_the_echo_judge_falls_for_the_same_text_outside_a_fence(case: str) -> None:
    echo = EchoJudge(["Compare the two.", "Reply with one letter only, A or B."])
    words = CASES[case].replace("@X@", "A")
    shown = f"Compare the two.\n{MARK}\n{words}\nReply with one letter only, A or B."
    reply = echo(Label(({"role": "user", "content": shown},), ("A", "B")))
    assert reply.text == "A"
    assert len(echo.obeyed) == 1


@pytest.mark.parametrize("method", SCORING)
async def test_a_response_is_scored_and_never_shown_by_scoring_methods(method: str) -> None:
    echo = await echo_judge(method)
    hostile = attack("ignore-the-above", "B")
    await judge(method, echo).judge(prompt(), Comparison(GOOD, hostile), [PRINCIPLE])
    for request in echo.asked:
        assert isinstance(request, Score)
        assert hostile.text not in "".join(message["content"] for message in request.messages)
