"""Labels that are next to impossible are no verdict, whichever method reads them."""

import math
from collections.abc import Callable

import pytest

from rlaif.config import RunConfig
from rlaif.config.judge import MIN_MASS
from rlaif.engines import Generate, Label, Reply, Request
from rlaif.judging import METHODS, FlowJudge, Pairwise, build_judge, judge_comparison
from rlaif.records import Choice
from rlaif.templates import TemplateSet
from tests.judging.fake import COMPARISON, KIND, PROMPT, FakeEngine

READ_LABELS = ("pairwise", "salmon", "pointwise", "rubric")


def with_mass(mass: float) -> Callable[[Request], Reply]:
    """The first label is ten times as likely as all others, and all have this mass together."""

    def answer(request: Request) -> Reply:
        if isinstance(request, Generate):
            return Reply("A has more.")
        assert isinstance(request, Label)
        shares = [10.0, *[1.0] * (len(request.labels) - 1)]
        return Reply(label_logprobs=tuple(math.log(mass * share / sum(shares)) for share in shares))

    return answer


def judge(method: str, mass: float, **more: object) -> FlowJudge:
    engine = FakeEngine(with_mass(mass))
    templates = TemplateSet.open()
    return build_judge(name="main", method=method, engine=engine, templates=templates, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", READ_LABELS)
async def test_by_default_a_verdict_out_of_hardly_any_mass_abstains(method: str) -> None:
    verdicts = await judge(method, 1e-5).judge(PROMPT, COMPARISON, [KIND])
    assert {(one.choice, one.reason, one.logit) for one in verdicts} == {
        (Choice.ABSTAIN, "low-mass", None)
    }
    assert [one.mass for one in verdicts] == [pytest.approx(1e-5)] * len(verdicts)


async def test_with_reasoning_first_as_well() -> None:
    settings = Pairwise(chain_of_thought=True)
    verdicts = await judge("pairwise", 1e-5, settings=settings).judge(PROMPT, COMPARISON, [KIND])
    assert [one.reason for one in verdicts] == ["low-mass", "low-mass"]


@pytest.mark.parametrize("method", READ_LABELS)
async def test_enough_mass_is_read_and_zero_turns_the_limit_off(method: str) -> None:
    for asked in (judge(method, 1.2 * MIN_MASS), judge(method, 1e-5, min_mass=0.0)):
        verdicts = await asked.judge(PROMPT, COMPARISON, [KIND])
        assert all(one.choice is not Choice.ABSTAIN for one in verdicts)


async def test_a_judgment_of_such_verdicts_has_no_preference() -> None:
    judgment = await judge_comparison(
        PROMPT,
        COMPARISON,
        judges=[(judge("pairwise", 1e-5), 1.0)],
        drawn=[KIND],
        candidates=[KIND],
    )
    assert (judgment.preference, judgment.abstained) == (None, 2)


def test_every_method_whose_verdicts_have_a_mass_is_tested_here() -> None:
    reading = {name for name in METHODS if judge_of(name).cost.labels}
    assert reading == set(READ_LABELS)


def judge_of(name: str) -> FlowJudge:
    engine = FakeEngine(with_mass(1.0), capabilities=frozenset())
    row = METHODS[name]
    settings = row.settings()
    template = row.template if isinstance(row.template, str) else row.template(settings)
    return FlowJudge(
        name=name,
        method=name,
        row=row,
        engine=engine,
        template=TemplateSet.open().get(template) if template else None,
        settings=settings,
    )


def test_the_default_of_a_run_file_suits_judges_that_read_no_labels() -> None:
    words = {"engine": "scripted", "model": "echo", "pairwise": {"words": True}}
    run = RunConfig(
        name="run",
        prompts={"path": "p.jsonl"},
        constitution="hhh",
        student={"engine": "scripted", "model": "echo"},
        judges=[words],
        out="out",
    )
    assert run.judging.min_mass == MIN_MASS
    assert RunConfig.model_validate(run.model_dump(mode="json")) == run
