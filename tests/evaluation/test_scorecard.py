import json
from dataclasses import replace
from pathlib import Path

import pytest

from rlaif.errors import RecordError, RunError
from rlaif.evaluation.measure import Measure
from rlaif.evaluation.scorecard import (
    SCHEMA,
    Estimate,
    Scorecard,
    read_scorecard,
    write_scorecard,
)

RULES = Measure("rules", "kept", better="higher", kind="share", cannot_tell="much")


def estimate(model: str, value: float | None, *, slice: str = "all") -> Estimate:
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    return Estimate(model, "rules", slice, value, low, high, 10, 20, 2, "bootstrap")


CARD = Scorecard(
    name="test",
    fingerprint="f" * 32,
    constitution="c@1",
    baseline="base",
    models=("base", "policy"),
    slices={"all": 10, "easy": 4},
    draws={"n": 2, "seed": 0, "temperature": 1.0, "top_p": 1.0, "max_tokens": 9, "stop": []},
    measures=(RULES,),
    estimates=(estimate("base", 0.4), estimate("policy", None)),
    changes=(estimate("policy", 0.25), estimate("policy", -0.3, slice="easy")),
    failures={"policy: http-500": 3},
    notices=("mind | the <gap>",),
)


def test_estimates_and_changes_are_looked_up_by_name() -> None:
    assert CARD.estimate("base", "rules").estimate == 0.4
    assert CARD.change("policy", "rules", "easy").estimate == -0.3
    assert CARD.measure("rules") is RULES


@pytest.mark.parametrize("model", ["base", "unknown"])
def test_a_missing_estimate_is_a_key_error(model: str) -> None:
    with pytest.raises(KeyError):
        CARD.change(model, "rules")
    with pytest.raises(KeyError):
        CARD.measure("other")


def test_a_scorecard_read_back_is_equal(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scorecard.json"
    write_scorecard(CARD, path)
    assert read_scorecard(path) == replace(CARD, draws=CARD.draws)
    assert [file.name for file in path.parent.iterdir()] == ["scorecard.json"]


def test_a_number_that_is_not_known_is_written_as_null(tmp_path: Path) -> None:
    write_scorecard(CARD, tmp_path / "s.json")
    data = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert data["estimates"][1]["estimate"] is None


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"models": 3}', "nonsense"])
def test_something_else_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match="not a scorecard"):
        read_scorecard(path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    write_scorecard(replace(CARD, schema=SCHEMA + 1), path)
    with pytest.raises(RecordError, match="newer"):
        read_scorecard(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such file"):
        read_scorecard(tmp_path / "none.json")


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match="not a folder"):
        write_scorecard(CARD, tmp_path / "out" / "scorecard.json")
