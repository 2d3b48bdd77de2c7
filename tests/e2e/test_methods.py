"""Every method and option carried through a whole run, in this process, on scripted engines."""

from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.errors import ConfigError
from rlaif.records import Row
from rlaif.runs import open_run
from tests.e2e.project import write_project

RANDOM = {"engine": "scripted", "model": "judge-random"}
LONGER = {"engine": "scripted", "model": "judge-longer"}


def rows(folder: Path, **changes: Any) -> list[Row]:
    rlaif.generate(write_project(folder, prompts=8, **changes))
    return list(open_run(folder / "run").rows())


@pytest.mark.parametrize("method", ["contrast", "pairwise", "pointwise", "rubric", "salmon"])
def test_every_method_makes_pairs(tmp_path: Path, method: str) -> None:
    made = rows(tmp_path, judges=[{"name": "main", "method": method, **RANDOM}])
    assert sum(len(row.pairs) for row in made) > 0
    methods = {v.method for row in made for j in row.judgments for v in j.verdicts}
    assert methods == {method}


def test_chain_of_thought_is_clamped_on_record_in_the_rows(tmp_path: Path) -> None:
    made = rows(
        tmp_path, judges=[{"name": "main", "pairwise": {"chain_of_thought": True}, **RANDOM}]
    )
    judgments = [j for row in made for j in row.judgments]
    assert judgments
    for judgment in judgments:
        assert judgment.preference is not None
        assert 0.4 <= judgment.preference <= 0.6
        assert judgment.transforms == ("main: clamp(0.4..0.6)",)
    assert all(v.raw for j in judgments for v in j.verdicts)


def test_contrast_samples_are_labelled_by_construction_without_a_judge(tmp_path: Path) -> None:
    made = rows(
        tmp_path,
        student={
            "engine": "scripted",
            "model": "echo",
            "sampling": {"n": 4, "strategy": "contrast"},
        },
        judges=[],
        judging={"comparisons": "contrast", "label": "construction", "max_length_ratio": 3.0},
        pairing={"strategy": "all-pairs"},
    )
    assert len(made) == 8
    assert all(row.prompt.messages[0]["role"] == "user" for row in made)
    pairs = [(row, pair) for row in made for pair in row.pairs]
    assert pairs
    for row, pair in pairs:
        assert row.response(pair.chosen_id).origin == "contrast-for"
        assert row.response(pair.rejected_id).origin == "contrast-against"
        assert (pair.chosen_prob, pair.judges) == (1.0, ("construction",))
    compared = sum(len(row.judgments) for row in made)
    unequal = sum(d.reason == "length" for row in made for d in row.drops)
    assert (compared + unequal, unequal > 0) == (16, True)


def test_a_panel_that_disagrees_drops_or_softens(tmp_path: Path) -> None:
    judges = [{"name": "one", **RANDOM}, {"name": "two", **LONGER}]
    for folder in ("drop", "soften"):
        (tmp_path / folder).mkdir()
    judging = {"max_disagreement": 0.2}
    dropped = rows(tmp_path / "drop", judges=judges, judging=judging)
    judgments = [j for row in dropped for j in row.judgments]
    assert all(j.disagreement is not None for j in judgments)
    disputed = sum((j.disagreement or 0.0) > 0.2 for j in judgments)
    assert sum(d.reason == "disagreement" for row in dropped for d in row.drops) > 0
    softened = rows(
        tmp_path / "soften", judges=judges, judging={**judging, "on_disagreement": "soften"}
    )
    marked = [
        j for row in softened for j in row.judgments if any("soften" in t for t in j.transforms)
    ]
    assert len(marked) == disputed > 0


def test_a_tournament_replaces_preferences_on_record(tmp_path: Path) -> None:
    made = rows(tmp_path, judging={"fit": "bradley-terry"}, pairing={"length_tiers": 0.3})
    for row in made:
        for judgment in row.judgments:
            assert judgment.transforms[-1] == "bradley-terry(prior=0.001)"
            assert judgment.raw_preference != judgment.preference


def test_canaries_are_judged_and_kept_apart(tmp_path: Path) -> None:
    made = rows(tmp_path, judging={"canary": {"share": 0.5}})
    canaries = [judgment for row in made for judgment in row.canaries]
    assert canaries
    known = {judgment.first_id for judgment in canaries}
    for row in made:
        assert not known & {response.id for response in row.responses}
        assert not known & {one for p in row.pairs for one in (p.chosen_id, p.rejected_id)}
    without = tmp_path / "without"
    without.mkdir()
    plain = rows(without)
    assert [row.pairs for row in sorted(plain, key=lambda r: r.prompt.id)] == [
        row.pairs for row in sorted(made, key=lambda r: r.prompt.id)
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judging": {"max_disagreement": 0.2}}, "fewer than two judges"),
        ({"judging": {"on_disagreement": "soften"}}, "without max_disagreement"),
        ({"judging": {"comparisons": "contrast"}}, r"needs student\.sampling\.strategy: contrast"),
        ({"judging": {"label": "construction"}}, "needs comparisons: contrast"),
        ({"judging": {"comparisons": "random", "fit": "bradley-terry"}}, "nothing to fit"),
        (
            {"pairing": {"strategy": "random", "length_tiers": 0.1}},
            "length_tiers has no effect",
        ),
        (
            {"judging": {"canary": {"share": 0.1}}, "judges": [], "constitution": "concise"},
            "canary has no effect without judges",
        ),
    ],
)
def test_what_makes_no_sense_together_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        rows(tmp_path, **changes)


def test_contrast_needs_couples_and_no_revision(tmp_path: Path) -> None:
    student = {"engine": "scripted", "model": "echo"}
    odd = {**student, "sampling": {"n": 3, "strategy": "contrast"}}
    with pytest.raises(ConfigError, match="n must be even"):
        rows(tmp_path, student=odd)
    even = {**student, "sampling": {"n": 2, "strategy": "contrast"}}
    with pytest.raises(ConfigError, match="exclude each other"):
        rows(tmp_path, student=even, revise={"rounds": 1})
    with pytest.raises(ConfigError, match="only rule principles"):
        rows(tmp_path, student=even, judges=[], constitution="concise")
    with pytest.raises(ConfigError, match="principles has no effect"):
        rows(
            tmp_path,
            student=even,
            judging={"comparisons": "contrast", "principles": {"choose": "all"}},
        )
