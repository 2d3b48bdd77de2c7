from pathlib import Path

import pytest

from rlaif.errors import RunError
from rlaif.loop.round import decide, read_round


@pytest.mark.parametrize(
    ("change", "low", "high", "direction", "min_gain", "promoted"),
    [
        (0.10, 0.02, 0.18, "up", 0.0, True),
        (0.10, -0.01, 0.21, "up", 0.0, False),
        (0.10, 0.02, 0.18, "up", 0.05, False),
        (-0.10, -0.18, -0.02, "up", 0.0, False),
        (-0.10, -0.18, -0.02, "down", 0.0, True),
        (-0.10, -0.18, 0.01, "down", 0.0, False),
        (0.10, 0.0, 0.2, "up", 0.0, False),
        (None, None, None, "up", 0.0, False),
        (0.5, None, None, "up", 0.0, False),
    ],
)
def test_only_a_gain_beyond_its_whole_interval_is_promoted(
    change, low, high, direction, min_gain, promoted
):
    decision, why = decide(change, low, high, direction=direction, min_gain=min_gain)
    assert decision is promoted
    assert why


def test_an_undecided_round_has_no_record_and_a_damaged_one_is_reported_with_a_fix(tmp_path: Path):
    path = tmp_path / "round.json"
    assert read_round(path) is None
    path.write_text('{"number": 1')
    with pytest.raises(RunError, match="delete the file"):
        read_round(path)
