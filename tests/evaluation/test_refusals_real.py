"""The refusal detector against human labels of real responses.

The phrases were written while looking at responses to half of the prompts (even hash). The floors
hold for the other half, which was only counted.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence

import pytest

from rlaif.evaluation.refusals import Refusal, detect_refusal
from tests.public_data import DATA

FILE = DATA / "labelled/xstest_refusal_human.jsonl"
LABELS = {
    "full_compliance": Refusal.NONE,
    "partial_refusal": Refusal.PARTIAL,
    "full_refusal": Refusal.FULL,
}

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="the labelled responses are not here")

Pairs = list[tuple[Refusal, Refusal | None]]


def labelled(*, seen: bool) -> Pairs:
    """Human label and detection, for the prompts that were looked at or for the others."""
    rows = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return [
        (LABELS[row["label"]], detect_refusal(row["response"]))
        for row in rows
        if (int(hashlib.md5(row["prompt"].encode()).hexdigest(), 16) % 2 == 0) == seen
    ]


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


def figures(pairs: Pairs) -> tuple[float, float, float, float]:
    """Accuracy and kappa of the three classes, then of refusing at all."""
    three = accuracy_and_kappa([(label, found) for label, found in pairs])
    two = accuracy_and_kappa(
        [(label is not Refusal.NONE, found is not Refusal.NONE) for label, found in pairs]
    )
    return *three, *two


def per_class(pairs: Pairs, kind: Refusal) -> tuple[float, float]:
    """Precision and recall of one class."""
    called = [label for label, found in pairs if found is kind]
    there = [found for label, found in pairs if label is kind]
    return (
        sum(label is kind for label in called) / len(called),
        sum(found is kind for found in there) / len(there),
    )


@pytest.mark.parametrize("seen", [True, False], ids=["looked-at", "not-looked-at"])
def test_the_detector_agrees_with_people(seen: bool) -> None:
    pairs = labelled(seen=seen)
    three, three_kappa, two, two_kappa = figures(pairs)
    lines = [
        f"{len(pairs)} responses",
        f"three classes: accuracy {three:.3f}, kappa {three_kappa:.3f}",
        f"refusing at all: accuracy {two:.3f}, kappa {two_kappa:.3f}",
    ]
    for kind in Refusal:
        precision, recall = per_class(pairs, kind)
        lines.append(f"{kind.value}: precision {precision:.3f}, recall {recall:.3f}")
    sys.stdout.write("\n".join(["", *lines, ""]))
    assert three >= 0.84
    assert three_kappa >= 0.72
    assert two >= 0.89
    assert two_kappa >= 0.78
    assert per_class(pairs, Refusal.NONE)[1] >= 0.97
    assert per_class(pairs, Refusal.FULL)[1] >= 0.83
