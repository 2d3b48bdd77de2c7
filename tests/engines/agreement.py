"""What every server that is really run must do: judge like the embedded engine, and make a run."""

import math
from pathlib import Path
from typing import Any

import rlaif
from rlaif.constitution import load_constitution
from rlaif.engines import Engine
from rlaif.judging import build_judge
from rlaif.records import Choice, Comparison, Prompt, Response, Verdict
from rlaif.templates import TemplateSet
from tests.e2e.project import write_project

PROMPTS, SAMPLES = 2, 4
JUDGES: dict[str, dict[str, Any]] = {
    "labels": {"method": "pairwise"},
    "words": {"method": "pairwise", "pairwise": {"words": True}},
    "alone": {"method": "pointwise"},
}


async def judge_examples(engine: Engine) -> list[Verdict]:
    """Pairwise verdicts on an example of each of three principles, in both orders."""
    judge = build_judge(name="main", method="pairwise", engine=engine, templates=TemplateSet.open())
    verdicts: list[Verdict] = []
    for principle in load_constitution("hhh").judged()[:3]:
        for example in principle.examples[:1]:
            prompt = Prompt.build(example.prompt)
            comparison = Comparison(
                Response.build(prompt.id, example.better, index=0),
                Response.build(prompt.id, example.worse, index=1),
            )
            verdicts += await judge.judge(prompt, comparison, [principle])
    return verdicts


def differences(one: list[Verdict], other: list[Verdict]) -> list[float]:
    """By how much the log-odds of two engines differ, verdict by verdict."""
    found = []
    for mine, its in zip(one, other, strict=True):
        assert mine.logit is not None, mine
        assert its.logit is not None, its
        found.append(abs(mine.logit - its.logit))
    return found


async def check_run(folder: Path, engine: dict[str, Any]) -> None:
    """Make a run with four samples and three judges, all of them asked of one server."""
    folder.mkdir()
    path = write_project(
        folder,
        prompts=PROMPTS,
        student={**engine, "sampling": {"n": SAMPLES, "max_tokens": 8}},
        judges=[{"name": name, **engine, **judge} for name, judge in JUDGES.items()],
        judging={
            "principles": {"choose": "one"},
            "comparisons": "random",
            "min_mass": 0.0,  # the model seldom answers with a number
        },
    )
    run = await rlaif.agenerate(path)
    status = run.status(verify=True)
    assert (status.rows, status.failed, status.state) == (PROMPTS, 0, "finished")
    assert not status.call_failures, status.messages
    for row in run.rows():
        assert [one.index for one in row.responses] == list(range(SAMPLES))
        assert len({one.text for one in row.responses}) > 1
        judged = {one.judge: one for each in row.judgments for one in each.verdicts}
        assert judged.keys() == JUDGES.keys()
        assert math.isfinite(judged["labels"].logit or math.nan)
        assert judged["words"].choice in (Choice.A, Choice.B)
        assert judged["alone"].scores is not None
        assert all(-1.0 <= score <= 1.0 for score in judged["alone"].scores)
        assert all(0.0 <= each.preference <= 1.0 for each in row.judgments if each.preference)
