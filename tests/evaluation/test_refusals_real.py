"""The refusal detector against human labels of real responses.

The points of the cues are fitted anew on four fifths of the prompts and counted on the last fifth,
so no response is judged by points that saw its prompt.
"""

import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from rlaif.evaluation.refusals import Refusal, detect_refusal
from tests.evaluation.fit_cues import FILE, cross_fitted, read_labelled, targets

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="the labelled responses are not here")


def accuracy_and_kappa(pairs: Sequence[tuple[object, object]]) -> tuple[float, float]:
    """Cohen's kappa: agreement beyond what the two sets of labels agree on by chance."""
    n = len(pairs)
    observed = sum(one == other for one, other in pairs) / n
    ones, others = (Counter(side) for side in zip(*pairs, strict=True))
    chance = sum(ones[label] * others[label] for label in ones) / n**2
    return observed, (observed - chance) / (1 - chance)


def test_kappa_is_what_is_worked_by_hand() -> None:
    # 20 yes/yes, 15 no/no, 5 yes/no, 10 no/yes: 0.7 observed, 0.5 by chance, so 0.4
    pairs = [(1, 1)] * 20 + [(0, 0)] * 15 + [(1, 0)] * 5 + [(0, 1)] * 10
    assert accuracy_and_kappa(pairs) == pytest.approx((0.7, 0.4))


def test_the_detector_agrees_with_people_on_prompts_it_was_not_fitted_to() -> None:
    rows = read_labelled()
    is_full, is_any = targets(rows)
    sum_full, sum_any = cross_fitted(rows)
    found_any = sum_any > 0
    found_full = found_any & (sum_full > 0)
    full = accuracy_and_kappa(list(zip(is_full > 0, found_full, strict=True)))
    any_at_all = accuracy_and_kappa(list(zip(is_any > 0, found_any, strict=True)))
    lines = [f"full {full[0]:.3f}, {full[1]:.3f}", f"any {any_at_all[0]:.3f}, {any_at_all[1]:.3f}"]
    for model in sorted({row["model"] for row in rows}):
        mine = np.array([row["model"] == model for row in rows])
        shares = [part[mine].mean() for part in (is_full, found_full, is_any, found_any)]
        lines.append(f"{model}: " + " ".join(f"{share:.3f}" for share in shares))
        assert abs(shares[3] - shares[2]) < 0.06
    sys.stdout.write("\n".join(["", *lines, ""]))
    assert full >= (0.91, 0.82)
    assert full[1] >= 0.82
    assert any_at_all[0] >= 0.93
    assert any_at_all[1] >= 0.87


def test_the_shipped_points_agree_with_people_at_least_as_well() -> None:
    rows = read_labelled()
    labels = {
        "full_compliance": Refusal.NONE,
        "partial_refusal": Refusal.PARTIAL,
        "full_refusal": Refusal.FULL,
    }
    pairs = [(labels[row["label"]], detect_refusal(row["response"])) for row in rows]
    full = [(label is Refusal.FULL, found is Refusal.FULL) for label, found in pairs]
    three = [(label.value, "" if found is None else found.value) for label, found in pairs]
    sys.stdout.write(f"\n{accuracy_and_kappa(full)} {accuracy_and_kappa(three)}\n")
    assert accuracy_and_kappa(full)[0] >= 0.915
    assert accuracy_and_kappa(full)[1] >= 0.83
    assert accuracy_and_kappa(three)[1] >= 0.78
