"""What comes of a run is kept and counted, and can be a reason to stop."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rlaif.errors import RenderError, StoppedEarly
from rlaif.pipeline.tally import Tally
from rlaif.records import Failure, Prompt, Response, Row, content_id
from rlaif.runs import Manifest, RunWriter, open_run
from rlaif.sessions.budget import Spend, Use


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RunWriter]:
    manifest = Manifest.build(
        name="run",
        plan={},
        config={},
        constitution_label="c@1",
        constitution={},
        engines={},
        notices=(),
    )
    with RunWriter(tmp_path / "run", manifest) as opened:
        yield opened


def row(number: int) -> Row:
    prompt = Prompt.build(f"prompt {number}", id=f"p{number}")
    return Row(content_id("row", number), prompt, (), (), ())


def unrendered(number: int) -> Failure:
    return Failure("render", f"p{number}", "template", "no second turn")


def test_what_no_template_can_show_is_kept_once_there_is_a_row(writer: RunWriter):
    tally = Tally(writer, failed=set())
    assert tally.keep(unrendered(1)) is None
    assert (tally.rows, tally.failures) == (0, 0)
    assert isinstance(tally.never_rendered(), RenderError)
    assert tally.keep(row(2)) is None
    assert (tally.rows, tally.failures, tally.never_rendered()) == (1, 1, None)
    assert tally.keep(unrendered(3)) is None
    assert tally.failures == 2
    writer.flush()
    assert [one.record_id for one in open_run(writer.directory).failures()] == ["p1", "p3"]


def test_twenty_of_them_and_no_row_are_a_reason_to_stop(writer: RunWriter):
    tally = Tally(writer, failed=set())
    reasons = [tally.keep(unrendered(number)) for number in range(20)]
    assert reasons[:19] == [None] * 19
    assert isinstance(reasons[19], RenderError)
    assert "any other of 20 prompts" in reasons[19].message


def test_a_failure_that_is_known_and_a_row_that_is_there_count_once(writer: RunWriter):
    tally = Tally(writer, failed={"p1"})
    tally.keep_failure(Failure("sample", "p1", "timeout", "too slow"))
    tally.keep_failure(Failure("sample", "p2", "timeout", "too slow"))
    tally.keep(row(3))
    tally.keep(row(3))
    assert (tally.rows, tally.failures) == (1, 2)


def test_other_processes_and_limits_are_part_of_the_progress(writer: RunWriter):
    tally = Tally(writer, failed=set())
    tally.total = 5
    tally.keep(row(1))
    tally.add_elsewhere({"sample": 3}, {"judge": 2}, Spend(0.5, 3, 30))
    tally.add_elsewhere({"sample": 1}, {}, Spend(0.25, 1, 10))
    assert tally.counts([]) == {"asked": {"sample": 4}, "remembered": {"judge": 2}}
    shown = tally.progress([], (Use("calls", 4, 10),))
    assert (shown.total, shown.rows, shown.asked, shown.remembered) == (5, 1, 4, 2)
    assert shown.price == 0.75
    assert shown.to_json()["budget"] == ({"what": "calls", "used": 4, "limit": 10},)
    stopped = tally.with_counts(StoppedEarly("the budget is used up", hint="raise it"))
    assert stopped.message == "the budget is used up; 1 of 5 prompts are rows, 0 failed"
    assert stopped.hint == "raise it"


def sampled(number: int, *texts: str) -> Row:
    one = row(number)
    responses = (
        Response.build(one.prompt.id, text, index=index, origin="sample")
        for index, text in enumerate(texts)
    )
    return replace(one, responses=tuple(responses))


@pytest.mark.parametrize(
    ("differing", "single", "drawn", "warned"),
    [(0, False, True, True), (2, False, True, True), (3, False, True, False),
     (0, True, True, False), (0, False, False, False)],
)  # fmt: skip
def test_samples_that_are_all_the_same_are_warned_of_once(
    writer: RunWriter, differing: int, single: bool, drawn: bool, warned: bool
):
    tally = Tally(writer, failed=set(), drawn=drawn)
    for number in range(25):
        texts = ("a", "b") if number < differing else ("a", " a")
        tally.keep(sampled(number, *texts[: 1 if single else 2]))
    tally.warn_of_identical()
    warnings = open_run(writer.directory).status().warnings
    assert len(warnings) == warned
    assert all(f"{20 - differing} of 20 prompts have samples" in one for one in warnings)
