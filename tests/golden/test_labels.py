"""Every judge method, order and choice of principles labels as it was recorded."""

from pathlib import Path

import pytest

from tests.golden.cases import LABELS, generate
from tests.golden.facts import arithmetic, differences
from tests.golden.record import load

RECORDED = load("labels")


def test_every_case_is_recorded() -> None:
    assert set(RECORDED["cases"]) == set(LABELS)


@pytest.mark.parametrize("case", LABELS)
def test_labels_are_as_recorded(case: str, tmp_path: Path) -> None:
    found = generate(tmp_path, LABELS[case])
    exactly = arithmetic() == RECORDED["arithmetic"]
    lines = differences(RECORDED["cases"][case], found, exactly=exactly)
    if lines:
        pytest.fail("\n".join([f"labels of {case} have changed:", *lines]), pytrace=False)
