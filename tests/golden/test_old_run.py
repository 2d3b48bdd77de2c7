"""A run that an earlier version wrote answers every call, so that nothing is asked again.

`recorded/old` holds its manifest, ledger and shards: a judge of every method and one round of
revisions. It is not recorded anew with the rest, because data on users' disks are not either.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.runs import row_to_dict
from tests.golden.cases import every_method
from tests.golden.facts import arithmetic, differences, rounded, row_facts
from tests.golden.inside import STEADY, asked_of, command, golden_engine
from tests.golden.record import RECORDED, load


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy, because opening a ledger leaves files beside it."""
    return Path(shutil.copytree(RECORDED / "old", tmp_path / "old"))


@pytest.fixture
def engines() -> Iterator[list[Any]]:
    with golden_engine() as opened:
        yield opened


def _check_rows(folder: Path) -> None:
    recorded = load("old")
    exactly = arithmetic() == recorded["arithmetic"]
    lines = differences(recorded["rows"], row_facts(folder), exactly=exactly)
    if lines:
        pytest.fail("\n".join(["rows differ from the old run's:", *lines]), pytrace=False)


def _rows_of(folder: Path) -> dict[str, Any]:
    """Rows by id, transforms in any order: clamps were put on record before other transforms."""
    rows = {row.id: rounded(row_to_dict(row)) for row in rlaif.open_run(folder).rows()}
    for row in rows.values():
        for judgment in (*row["judgments"], *row["canaries"]):
            judgment["transforms"] = sorted(judgment["transforms"])
    return rows


def test_the_old_rows_are_read_as_they_were_written(old: Path) -> None:
    _check_rows(old)


def test_a_run_that_reuses_the_old_ledger_asks_nothing_and_makes_its_rows(
    old: Path, tmp_path: Path, engines: list[Any]
) -> None:
    overrides = {"out": str(tmp_path / "new"), "reuse": [str(old)]}
    run = rlaif.generate(every_method(tmp_path), overrides=overrides)
    assert {engine.identity["model"]: dict(engine.asked) for engine in engines} == {STEADY: {}}
    assert sum(one.calls for one in run.status().calls) == 0
    assert sum(one.reused for one in run.status().calls) == load("old")["calls"] > 150
    assert _rows_of(tmp_path / "new") == _rows_of(old)


def test_the_old_run_is_resumed_where_it_lies(
    old: Path, tmp_path: Path, engines: list[Any]
) -> None:
    rlaif.generate(every_method(tmp_path), overrides={"out": str(old)})
    assert asked_of(engines) == 0
    _check_rows(old)


def test_the_old_run_is_reparsed_without_a_question(old: Path, tmp_path: Path) -> None:
    told = command("reparse", old, "--out", tmp_path / "new", "--json")
    assert told["failed"] == 0
    assert told["abstained"] == told["abstained_before"]


def test_relabelling_the_old_run_by_its_own_constitution_flips_nothing(
    old: Path, tmp_path: Path, engines: list[Any]
) -> None:
    constitution = every_method(tmp_path).with_name("constitution.yaml")
    told = command(
        *("relabel", old, "--constitution", constitution, "--out", tmp_path / "new", "--json")
    )
    assert told["asked"] == 0
    assert told["same"] == told["compared"] > 0
