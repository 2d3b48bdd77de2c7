import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlaif.config import load_config
from rlaif.config.reward import JudgedConfig
from rlaif.constitution import Principle
from rlaif.engines import Capability, Reply
from rlaif.errors import ConfigError, ModelUnknown, RunLocked
from rlaif.judging import ConstructionJudge, FlowJudge, Rubric, build_judge
from rlaif.records import Choice, Order, Prompt, Verdict
from rlaif.serving.judged import Panel, open_judged, strength
from rlaif.templates import TemplateSet
from tests.engines.faults import serving
from tests.judging.fake import FakeEngine, always

PROMPT = Prompt.build("Why?")
HARM = Principle(id="harm", statement="Do no harm.", weight=3.0)
BRIEF = Principle(id="brief", statement="Be brief.", applies_to=("short",))


class Says:
    """A judge that gives each principle's score, or abstains where there is none."""

    method = "pointwise"

    def __init__(self, name: str, **scores: float | None) -> None:
        self.name = name
        self.scores = scores

    def strength(self, _: str, score: float) -> float:
        return 4.0 * score

    async def judge(self, _: Any, __: Any, principles: Any) -> Any:
        return tuple(self.verdict(one.id) for one in principles)

    def verdict(self, principle: str) -> Verdict:
        score = self.scores[principle]
        known = score is not None
        return Verdict(
            judge=self.name,
            method=self.method,
            principle=principle,
            order=Order.NONE,
            choice=Choice.TIE if known else Choice.ABSTAIN,
            logit=0.0 if known else None,
            scores=(score, score) if score is not None else None,
            reason="" if known else "refused",
        )


def panel(*judges: tuple[Any, float], **settings: Any) -> Panel:
    return Panel(tuple(judges), (HARM, BRIEF), **settings)


async def test_a_strength_is_the_weighted_mean_of_scaled_scores():
    both = panel((Says("a", harm=0.5, brief=-0.5), 1.0), (Says("b", harm=1.0, brief=0.0), 2.0))
    short = Prompt.build("Why?", tags=("short",))
    # by hand: 4·(1·3·0.5 + 1·1·(−0.5) + 2·3·1 + 2·1·0) / (1·4 + 2·4)
    assert (await both.score(short, "x", None))[0] == pytest.approx(4 * 7.0 / 12)
    # brief does not apply to this one: 4·(1·0.5 + 2·1)/3
    assert (await both.score(PROMPT, "x", None))[0] == pytest.approx(4 * 2.5 / 3)


async def test_one_missing_opinion_leaves_a_response_unscored_with_the_reason():
    score, why = await panel((Says("a", harm=None), 1.0)).score(PROMPT, "x", None)
    assert score is None
    assert why == "the judge 'a' abstained under 'harm' (refused)"


async def test_no_applicable_principle_is_unscored():
    judge: Any = Says("a")
    only = Panel(((judge, 1.0),), (BRIEF,))
    assert await only.score(PROMPT, "x", None) == (
        None,
        "no principle of the constitution applies to this prompt",
    )


async def test_without_a_reference_there_is_nothing_to_compare():
    score, why = await panel((Says("a"), 1.0), against_reference=True).score(PROMPT, "x", None)
    assert (score, "column 'reference' is empty" in why) == (None, True)
    same = panel((Says("a"), 1.0), against_reference=True)
    assert await same.score(PROMPT, "x", "x") == (0.5, "")


async def test_all_responses_to_a_prompt_are_measured_by_the_same_principle():
    names = [f"p{i}" for i in range(8)]
    many = tuple(Principle(id=name, statement="s") for name in names)
    judge: Any = Says("a", **{name: i / 8 for i, name in enumerate(names)})
    drawn = Panel(((judge, 1.0),), many, how_many="one")
    scores = {(await drawn.score(PROMPT, f"text {i}", None))[0] for i in range(20)}
    assert len(scores) == 1


def judge(method: str, settings: Any = None) -> FlowJudge:
    return build_judge(
        name="j",
        method=method,
        engine=FakeEngine(always(Reply()), frozenset(Capability)),
        templates=TemplateSet.open(),
        settings=settings,
    )


def test_scale_temperature_and_rubric_weights_are_part_of_a_strength():
    pointwise = judge("pointwise")
    assert strength(pointwise, "p", 0.5) == 2.0
    assert strength(replace(pointwise, temperature=4.0), "p", 0.5) == 0.5
    assert strength(judge("rubric", Rubric(weights={"p": -2.0})), "p", 0.5) == -4.0
    assert strength(judge("reward"), "reward-model", -1.5) == -1.5


@pytest.mark.parametrize("method", ["pairwise", "salmon", "contrast"])
def test_a_method_that_compares_has_no_strength(method: str):
    with pytest.raises(ValueError, match=f"{method} does not score"):
        strength(judge(method), "p", 0.5)
    with pytest.raises(ValueError, match="construction does not score"):
        strength(ConstructionJudge(), "p", 0.5)


def config(folder: Path, **changes: Any) -> JudgedConfig:
    judge = {"name": "j", "engine": "scripted", "model": "judge-random", "method": "pointwise"}
    settings = {"judges": [judge], "constitution": "hhh", "out": str(folder / "ledger")}
    return load_config(JudgedConfig, settings | changes)


async def ask(judged: Any, *texts: str, **columns: Any) -> Any:
    why: list[list[str]] = [[] for _ in texts]
    prompts = [list(PROMPT.messages)] * len(texts)
    return await judged(prompts, list(texts), why=why, **columns), why


async def test_equal_texts_are_asked_once_and_remembered_for_ever(tmp_path: Path):
    judged = open_judged(config(tmp_path))
    first, why = await ask(judged, "one", "two", "one")
    asked = judged.recorded[0].asked.total()
    await judged.aclose()
    assert first[0] == first[2] != first[1]
    assert why == [[], [], []]
    again = open_judged(config(tmp_path))
    assert (await ask(again, "one", "two"))[0] == first[:2]
    assert (asked > 0, again.recorded[0].asked.total()) == (True, 0)
    with pytest.raises(RunLocked):
        open_judged(config(tmp_path))
    other = open_judged(config(tmp_path), rank=1)  # another process of the same training
    await other.aclose()
    await again.aclose()


async def test_against_a_reference_both_orders_are_asked_and_the_bias_cancels(tmp_path: Path):
    judge = {
        "name": "j",
        "engine": "scripted",
        "model": "judge-longer",
        "options": {"position_bias": 3.0},
    }
    judged = open_judged(config(tmp_path, judges=[judge], against="reference"))
    (better, worse), _ = await ask(judged, "a long text", "a", reference=["a text", "a text"])
    await judged.aclose()
    assert better > 0.5 > worse
    assert not math.isclose(better, 1.0)


async def test_a_prompt_that_is_none_is_unscored_and_the_others_are_scored(tmp_path: Path):
    judged = open_judged(config(tmp_path))
    why: list[list[str]] = [[], []]
    prompts: Any = [[], list(PROMPT.messages)]
    scores = await judged(prompts, ["a", "b"], why=why)
    await judged.aclose()
    assert (scores[0], scores[1] is None) == (None, False)
    assert why == [["the prompt has no messages"], []]


def test_a_constitution_of_rules_only_has_nothing_to_ask(tmp_path: Path):
    with pytest.raises(ConfigError, match="none of its principles needs a judge"):
        open_judged(config(tmp_path, constitution="concise"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"judges": [{"name": "j", "engine": "scripted", "model": "echo"}]}, "compares two"),
        ({"judges": [{"name": "j", "model": "same-as-student"}]}, "has no student"),
        ({"orders": "one"}, "orders: one has no effect"),
    ],
)
def test_settings_without_a_meaning_are_refused(changes: Any, words: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=words):
        config(tmp_path, **changes)


async def test_judges_behind_servers_are_tried_before_their_folder_is_made(tmp_path: Path):
    async with serving("plain") as server:
        server.fake.next_tokens = {str(number): 0.1 for number in range(1, 11)}
        judges = [
            {"name": "main", "engine": "openai", "model": "test-model", "method": "pointwise",
             "base_url": server.base_url}
        ]  # fmt: skip
        server.models = ["other"]
        settings = config(tmp_path, judges=judges, out=str(tmp_path / "ledger"))
        with pytest.raises(ModelUnknown):
            await asyncio.to_thread(open_judged, settings, ask_first=True)
        assert not (tmp_path / "ledger").exists()
        server.models = ["test-model"]
        judged = await asyncio.to_thread(open_judged, settings, ask_first=True)
        assert len(server.chats()) == 2  # a refused one, and one that was answered
        assert (await ask(judged, "A response."))[0] is not None  # in this event loop
        await judged.aclose()
        server.seen.clear()
        again = await asyncio.to_thread(open_judged, settings, ask_first=True)
        assert (await ask(again, "A response."))[0] is not None
        await again.aclose()
        assert server.seen == []
