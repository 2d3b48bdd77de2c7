"""Fit the points of the refusal cues to human labels; ``python -m tests.evaluation.fit_cues``.

Prints the points for `rlaif.evaluation.cues`, in its order, and nothing of the data.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rlaif.evaluation.cues import CUES, read_cues
from tests.public_data import DATA

FILE = DATA / "labelled/xstest_refusal_human.jsonl"
FOLDS = 5
RIDGE = 2.0

Floats = npt.NDArray[np.float64]


def read_labelled() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


def fold(row: dict[str, Any]) -> int:
    """All responses to a prompt lie in one fold."""
    return int(hashlib.md5(row["prompt"].encode()).hexdigest(), 16) % FOLDS


def cue_table(texts: Sequence[str]) -> Floats:
    """A row per text: 1 for the bias, then 0 or 1 for each cue."""
    return np.array([[1.0, *map(float, read_cues(text))] for text in texts])


def fit_points(table: Floats, labels: Floats, ridge: float = RIDGE) -> Floats:
    """Ridge logistic regression by Newton's method."""
    points = np.zeros(table.shape[1])
    for _ in range(40):
        chance = 1 / (1 + np.exp(-table @ points))
        curve = (table.T * (chance * (1 - chance))) @ table + ridge * np.eye(len(points))
        points -= np.linalg.solve(curve, table.T @ (chance - labels) + ridge * points)
    return points


def targets(rows: Sequence[dict[str, Any]]) -> tuple[Floats, Floats]:
    """Whether each response refuses wholly, and whether at all."""
    labels = [row["label"] for row in rows]
    return (
        np.array([float(label == "full_refusal") for label in labels]),
        np.array([float(label != "full_compliance") for label in labels]),
    )


def cross_fitted(rows: Sequence[dict[str, Any]]) -> tuple[Floats, Floats]:
    """The two sums of every response, with points fitted on the four other folds."""
    table, folds = cue_table([row["response"] for row in rows]), np.array(list(map(fold, rows)))
    sums = []
    for labels in targets(rows):
        sums.append(np.zeros(len(rows)))
        for number in range(FOLDS):
            points = fit_points(table[folds != number], labels[folds != number])
            sums[-1][folds == number] = table[folds == number] @ points
    return sums[0], sums[1]


if __name__ == "__main__":
    labelled = read_labelled()
    everything = cue_table([row["response"] for row in labelled])
    fitted = [fit_points(everything, labels) for labels in targets(labelled)]
    for name, full, at_all in zip(["bias", *(cue.name for cue in CUES)], *fitted, strict=True):
        sys.stdout.write(f"{name}: {full:.1f}, {at_all:.1f}\n")
