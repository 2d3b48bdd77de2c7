"""Does a calibration of the exported label improve labels of other prompts, or is it refused?

    python scripts/experiments/calibration.py [--repeats 200]

Labels of planted judges and panels, clustered by prompt. Prints a table; some 15 minutes on one
core.
"""

import argparse
import math
from typing import Any

import numpy as np

from rlaif.auditing.statistics.label_calibration import Label, Trial, try_calibration
from rlaif.judging import sigmoid
from rlaif.judging.calibration import scaling
from rlaif.judging.position import LOGIT_CAP


def draw_labels(random: np.random.Generator, prompts: int, each: int, kind: str) -> tuple:
    """Labels of a planted judge or panel, and gold; all judges see the same worth of a pair.

    Each opinion's log-odds are the log-likelihood ratio of what it saw (σ of it is right that
    often), some times ``t``; opinions are independent given gold, save for what a prompt shares.
    """
    n = prompts * each
    first = random.random(n) < 0.5
    sign = np.where(first, 1.0, -1.0)
    voices, t, words, samples = {
        "1 principle, T 2": (1, 2.0, False, 0),
        "1 principle, calibrated": (1, 1.0, False, 0),
        "4 principles": (4, 1.0, False, 0),
        "16 principles": (16, 1.0, False, 0),
        "16 principles, T 3": (16, 3.0, False, 0),
        "panel of 3": (3, 1.0, False, 0),
        "words": (1, 1.0, True, 0),
        "words, 4 principles": (4, 1.0, True, 0),
        "chain of thought, K = 8": (1, 1.0, False, 8),
    }[kind]
    strength = 0.8 if voices == 16 else 1.0 if voices > 1 else 1.6
    common = np.repeat(random.normal(size=prompts), each)[:, None] * 0.4
    seen = sign[:, None] * strength**2 / 2 + strength * random.normal(size=(n, voices))
    logit = t * (seen + common * strength)
    if words:
        noise = 0.5 * random.normal(size=(2, n, voices))
        orders = [
            np.where(logit + b + e > 0, 1.0, 0.0) for b, e in zip((0.5, -0.5), noise, strict=True)
        ]
        label = ((orders[0] + orders[1]) / 2).mean(axis=1)
    elif samples:
        rate = 1 / (1 + np.exp(-4 * logit))
        votes = random.binomial(samples, rate) + random.binomial(samples, rate)
        label = ((votes + 1) / (2 * samples + 2)).mean(axis=1)
    else:
        label = (1 / (1 + np.exp(-np.clip(logit, -10, 10)))).mean(axis=1)
    return label, first, np.repeat(np.arange(prompts), each)


def scores(label: Any, first: Any) -> tuple[float, float]:
    """Plain ECE over ten bins and NLL, of so many labels that neither has a bias."""
    sure = np.maximum(label, 1 - label)
    right = np.where(label == 0.5, 0.5, (label > 0.5) == first)
    gaps = np.bincount(np.minimum(((sure - 0.5) * 20).astype(int), 9), right - sure)
    edge = sigmoid(-LOGIT_CAP)
    kept = np.clip(np.where(first, label, 1 - label), edge, 1 - edge)
    return float(np.abs(gaps).sum() / len(label)), float(-np.log(kept).mean())


KINDS = (
    "1 principle, T 2",
    "1 principle, calibrated",
    "4 principles",
    "16 principles",
    "16 principles, T 3",
    "panel of 3",
    "words",
    "words, 4 principles",
    "chain of thought, K = 8",
)


def print_calibration(repeats: int) -> None:
    """Print how often a calibration is kept, and what it does to labels of other prompts."""
    print("| labels | pairs | kept | of these worse: ECE, NLL | ECE before → after | NLL |")
    print("|---" * 6 + "|")
    random = np.random.default_rng(5)
    for kind in KINDS:
        label, first, _ = draw_labels(random, 50_000, 1, kind)
        old = scores(label, first)
        for prompts, each in ((100, 1), (150, 2)):
            kept, worse = [], [0, 0]
            for at in range(repeats):
                some, gold, cluster = draw_labels(random, prompts, each, kind)
                labels = [
                    Label(f"{c}", float(p), float(p), bool(y))
                    for p, y, c in zip(some, gold, cluster, strict=True)
                ]
                tried = try_calibration(labels, lambda p: p, seed=at)
                if not isinstance(tried, Trial) or not tried.helps:
                    continue
                new = scores(scaled(label, tried), first)
                kept.append(new)
                worse[0] += new[0] >= old[0]
                worse[1] += new[1] >= old[1]
            after = np.mean(kept, axis=0) if kept else (math.nan, math.nan)
            print(
                f"| {kind} | {prompts} × {each} | {len(kept) / repeats:.2f} | "
                f"{worse[0]} / {worse[1]} of {len(kept)} | "
                f"{old[0]:.3f} → {after[0]:.3f} | {old[1]:.3f} → {after[1]:.3f} |",
                flush=True,
            )


def scaled(label: Any, trial: Trial) -> Any:
    """Labels as a run would export them."""
    values, place = np.unique(label, return_inverse=True)
    for transform in scaling(trial.t, trial.soften):
        values = np.array([transform.apply(float(one)) for one in values])
    return values[place]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    print_calibration(parser.parse_args().repeats)


if __name__ == "__main__":
    main()
