"""Principles put to their own examples, by scripted judges of known taste."""

import json
from pathlib import Path

import pytest

from rlaif.auditing.principles.principles import RULE, try_constitution
from rlaif.constitution import Constitution, Example, Principle, Rule
from rlaif.errors import ConfigError, GateRefused, InputError
from tests.auditing.runs import write_constitution

LONG, SHORT = "A long answer with a good many words in it.", "Short."
LIKES_LONG = Principle(
    id="thorough",
    statement="Be thorough.",
    examples=(Example(prompt="Why?", better=LONG, worse=SHORT),),
)
LIKES_SHORT = Principle(
    id="curt",
    statement="Be curt.",
    examples=(
        Example(prompt="Why?", better=SHORT, worse=LONG),
        Example(prompt="How?", better=LONG, worse=SHORT),
    ),
)
BRIEF = Principle(
    id="brief",
    statement="At most three words.",
    kind="rule",
    rule=Rule(max_words=3),
    examples=(
        Example(prompt="Why?", better=SHORT, worse=LONG),
        Example(prompt="How?", better=SHORT, worse=SHORT),
    ),
)
BARE = Principle(id="bare", statement="No examples.")


@pytest.fixture
def constitution(tmp_path: Path) -> str:
    both = Constitution(
        name="tested", version="1", principles=(LIKES_LONG, LIKES_SHORT, BRIEF, BARE)
    )
    return str(write_constitution(tmp_path / "tested.yaml", both))


def write_judges(tmp_path: Path, model: str, **options: float) -> Path:
    judge = {"name": "j", "engine": "scripted", "model": model, "options": options}
    path = tmp_path / "judge.yaml"
    path.write_text(json.dumps({"judges": [judge], "out": "out"}), encoding="utf-8")
    return path


def test_every_principle_gets_the_share_of_examples_the_judge_gets_right(
    tmp_path: Path, constitution: str
) -> None:
    reported: list[tuple[str, int, int]] = []
    report = try_constitution(
        constitution,
        judge=write_judges(tmp_path, "judge-longer"),
        out=None,
        on_progress=lambda *one: reported.append(one),
    )
    assert reported == [("examples by j", done, 3) for done in (1, 2, 3)]
    accuracy = {one.principle: (one.judge, one.accuracy) for one in report.tested}
    assert accuracy == {"thorough": ("j", 1.0), "curt": ("j", 0.5), "brief": (RULE, 0.75)}
    assert report.untested == ("bare",)
    curt = next(one for one in report.tested if one.principle == "curt")
    assert curt.to_json()["failed"] == ["Why?"]


def test_a_judge_stuck_on_a_place_is_seen_to_be(tmp_path: Path, constitution: str) -> None:
    judges = write_judges(tmp_path, "echo", position_bias=3.0)
    report = try_constitution(constitution, judge=judges, out=None)
    thorough = next(one for one in report.tested if one.principle == "thorough")
    assert thorough.stuck == 1
    assert thorough.accuracy == 0.5  # the two orders cancel: no opinion, half a point


def test_an_abstention_is_not_a_pass(tmp_path: Path, constitution: str) -> None:
    judges = write_judges(tmp_path, "judge-longer", failure_rate=1.0)
    report = try_constitution(constitution, judge=judges, out=None)
    assert [one.accuracy for one in report.tested if one.judge == "j"] == [0.0, 0.0]


def test_rules_are_tested_without_a_judge(constitution: str) -> None:
    report = try_constitution(constitution, judge=None, out=None)
    assert [one.principle for one in report.tested] == ["brief"]
    assert report.untested == ("thorough", "curt", "bare")


def test_a_principle_below_the_minimum_is_refused_by_name(
    tmp_path: Path, constitution: str
) -> None:
    report = try_constitution(constitution, judge=write_judges(tmp_path, "judge-longer"), out=None)
    report.check(0.5)
    with pytest.raises(GateRefused, match=r"curt by j: 1 of 2 examples") as refused:
        report.check(0.7)
    assert "brief" not in str(refused.value)


def test_shipped_rules_pass_their_own_examples() -> None:
    for name in ("concise", "hhh", "minimal"):
        report = try_constitution(name, judge=None, out=None)
        assert all(one.accuracy == 1.0 for one in report.tested)


def test_testing_needs_a_folder(tmp_path: Path, constitution: str) -> None:
    path = tmp_path / "judge.yaml"
    path.write_text('{"judges": [{"engine": "scripted", "model": "echo"}]}', encoding="utf-8")
    with pytest.raises(InputError, match="no folder"):
        try_constitution(constitution, judge=path, out=None)
    with pytest.raises(ConfigError, match="no such file"):
        try_constitution(constitution, judge=tmp_path / "none.yaml", out=None)
