"""Whether the label of a few drawn principles is, in the mean, the label of all of them.

    python scripts/experiments/draws.py

Sixteen principles with weights from 0.25 to 8 and planted opinions; k of them are drawn for each of
4,000 comparisons by the race that runs use, and their opinions are pooled as in a judgment. Once
all speak, once five of them abstain whenever they are drawn.
"""

import argparse
import math
import statistics
from collections.abc import Collection

from rlaif.constitution import Principle, choose_principles
from rlaif.judging import aggregate_verdicts, weigh_principles
from rlaif.judging.methods.flow import TWO
from rlaif.records import Choice, Order, Verdict

WEIGHTS = (8.0, 4.0, 2.0, 1.0, 1.0, 0.5, 0.25, 3.0, 1.5, 0.75, 1.0, 2.5, 0.25, 6.0, 1.0, 0.5)
OPINIONS = (0.9, 0.2, 0.6, 0.1, 0.95, 0.3, 0.5, 0.8, 0.4, 0.7, 0.15, 0.55, 0.99, 0.85, 0.25, 0.05)
SILENT = frozenset({0, 4, 7, 10, 13})


def label_of(some: Collection[int]) -> float:
    """The weighted mean of all these opinions."""
    return sum(WEIGHTS[n] * OPINIONS[n] for n in some) / sum(WEIGHTS[n] for n in some)


def draw_label(k: int, subject: str, silent: Collection[int], *, plain: bool) -> float | None:
    """The label of one comparison; ``plain`` averages the drawn opinions as they are."""
    principles = [Principle(id=f"p{n}", statement="x", weight=w) for n, w in enumerate(WEIGHTS)]
    drawn = choose_principles(principles, how_many=k, seed=0, subject=subject)
    places = [int(one.id[1:]) for one in drawn]
    loud = [f"p{n}" for n in places if n not in silent]
    own = dict.fromkeys(loud, 1.0) if plain else weigh_principles(drawn, principles, loud)
    verdicts = [
        Verdict("judge", "pairwise", f"p{n}", Order.NONE, Choice.ABSTAIN, reason="unreadable")
        if n in silent
        else Verdict("judge", "pairwise", f"p{n}", Order.NONE, Choice.A, logit=_logit(OPINIONS[n]))
        for n in places
    ]
    weights = {("judge", name): weight for name, weight in own.items()}
    return aggregate_verdicts(TWO, verdicts, weights=weights).preference


def _logit(p: float) -> float:
    return math.log(p) - math.log1p(-p)


def main() -> None:
    """Print a row for every k."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=4000)
    draws = parser.parse_args().draws
    for silent in (frozenset[int](), SILENT):
        target = label_of([n for n in range(len(WEIGHTS)) if n not in silent])
        print(f"{len(silent)} abstain; label of all that speak {target:.4f}")
        for k in (1, 2, 3, 4, 8, 12, 15, 16):
            labels = [draw_label(k, str(n), silent, plain=False) for n in range(draws)]
            known = [one for one in labels if one is not None]
            mean = statistics.fmean(known)
            error = statistics.stdev(known) / len(known) ** 0.5 if k < len(WEIGHTS) else 0.0
            others = [draw_label(k, str(n), silent, plain=True) for n in range(draws)]
            plain = statistics.fmean(one for one in others if one is not None)
            off = f"{(mean - target) / error:+.1f} s.e." if error > 0.0 else f"{mean - target:+.1e}"
            print(f"  k {k:2}: {mean:.4f} ({off}); plain mean {plain:.4f}")


if __name__ == "__main__":
    main()
