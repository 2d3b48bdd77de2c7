"""Runs, relabelled and reparsed runs, audits, evaluations and exports are as they were recorded."""

from pathlib import Path

import pytest

from tests.golden.cases import DATA
from tests.golden.facts import arithmetic, differences
from tests.golden.record import load

RECORDED = load("data")


def test_every_case_is_recorded() -> None:
    assert set(RECORDED["cases"]) == set(DATA)


@pytest.mark.parametrize("case", DATA)
def test_data_are_as_recorded(case: str, tmp_path: Path) -> None:
    found = DATA[case](tmp_path)
    exactly = arithmetic() == RECORDED["arithmetic"]
    lines = differences(RECORDED["cases"][case], found, exactly=exactly)
    if lines:
        pytest.fail("\n".join([f"{case} has changed:", *lines]), pytrace=False)
