"""Do the intervals of audits and evaluations hold the truth as often as they say?

    python scripts/experiments/coverage.py [--repeats 200]

Planted judges on planted gold, clustered by prompt. Prints a table; some 20 minutes on one core.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from rlaif.auditing import Outcome
from rlaif.auditing.statistics import accuracy, consistency, length, reliability, silence
from rlaif.evaluation.intervals import Figure, estimate_difference, estimate_mean, share_figure
from rlaif.evaluation.wins import length_controlled
from rlaif.judging import sigmoid
from rlaif.judging.position import LOGIT_CAP
from rlaif.records import Choice, Judgment, Order, Verdict

WHOLE = 20_000
"""Prompts of the population that a figure's true value is computed on."""


def normal_cdf(x: float) -> float:
    """Return the share of a normal distribution below."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


# --- a planted judge -------------------------------------------------------------------------


def draw_outcomes(random: np.random.Generator, prompts: int, each: int, **judge: float) -> list:
    """Gold pairs as a planted judge sees them.

    Args:
        random: The source of chance.
        prompts: How many.
        each: Pairs of every prompt.
        judge: ``skill`` and ``spread`` of its log-odds, ``bias`` for what is shown first,
            ``length`` per doubling, ``t`` its overconfidence, ``ties`` and ``mute`` shares.
    """
    skill, spread = judge.get("skill", 1.0), judge.get("spread", 1.0)
    made = []
    for prompt in range(prompts):
        shared = random.normal()
        for _ in range(each):
            sizes = np.exp(random.normal(5.0, 0.6, 2)).astype(int) + 1
            doublings = math.log2((sizes[0] + 1) / (sizes[1] + 1))
            better = random.random() < 0.5
            gold = Choice.TIE if random.random() < judge.get("gold_ties", 0.0) else None
            worth = (1 if better else -1) * (skill + 0.6 * spread * shared)
            worth += spread * random.normal()
            worth = judge.get("t", 1.0) * worth + judge.get("length", 0.0) * doublings
            bias = judge.get("bias", 0.0)
            shown = [worth + bias + 0.5 * random.normal(), -worth + bias + 0.5 * random.normal()]
            shown = [max(-LOGIT_CAP, min(LOGIT_CAP, one)) for one in shown]
            p = sigmoid((shown[0] - shown[1]) / 2)
            chance = random.random()
            mute = chance < judge.get("mute", 0.0)
            if judge.get("mute", 0.0) <= chance < judge.get("mute", 0.0) + judge.get("ties", 0.0):
                p = 0.5
            verdicts = tuple(
                Verdict(
                    "j",
                    "pairwise",
                    "p",
                    order,
                    Choice.ABSTAIN if mute else Choice.A if logit > 0 else Choice.B,
                    None if mute else logit,
                    0.9 + 0.1 * random.random() ** 2,
                )
                for order, logit in zip((Order.AB, Order.BA), shown, strict=True)
            )
            preference = None if mute else p
            made.append(
                Outcome(
                    f"{prompt}",
                    gold or (Choice.A if better else Choice.B),
                    (int(sizes[0]), int(sizes[1])),
                    Judgment(
                        *(f"{prompt}-{side}" for side in "ab"),
                        preference,
                        preference,
                        (),
                        None,
                        None,
                        0,
                        verdicts,
                    ),
                )
            )
    return made


AUDIT: dict[str, Callable[[list[Outcome], int], Figure | None]] = {
    "accuracy": lambda o, _: accuracy.measure_accuracy(o).figure,
    "pick the longer": lambda o, _: accuracy.measure_longer(o).figure,
    "tie agreement": lambda o, _: accuracy.measure_tie_agreement(o),
    "Cohen's kappa": lambda o, s: accuracy.measure_kappa(o, seed=s),
    "consistency": lambda o, s: consistency.measure_position(o, seed=s).consistency,
    "position bias": lambda o, s: consistency.measure_position(o, seed=s).bias,
    "fairness": lambda o, s: consistency.measure_position(o, seed=s).fairness,
    "length, log-odds": lambda o, _: length.fit_log_odds(o),
    "length, picks": lambda o, _: length.fit_picks(o),
    "ties": lambda o, _: silence.measure_silence(o).ties,
    "abstained": lambda o, _: silence.measure_silence(o).abstained,
    "label mass": lambda o, _: (m := silence.measure_mass(o)) and m.mean,
    "ECE": lambda o, s: (r := reliability.measure_reliability(o, seed=s)) and r.ece,
    "Brier": lambda o, s: (r := reliability.measure_reliability(o, seed=s)) and r.brier,
}
JUDGE = {"bias": 0.8, "length": 0.3, "t": 1.5, "ties": 0.1, "mute": 0.03, "gold_ties": 0.15}


def audit_rows(repeats: int) -> Iterator[tuple[str, str, list[Figure | None], float]]:
    """Every figure of an audit."""
    random = np.random.default_rng(1)
    whole = draw_outcomes(random, WHOLE, 1, **JUDGE)
    truth = {}
    for name, measure in AUDIT.items():
        if name == "ECE":
            report = reliability.measure_reliability(whole[:2], seed=0)
            kept = [one for one in whole if one.credit is not None]
            confidence = [max(o.judgment.preference, 1 - o.judgment.preference) for o in kept]
            places = [min(9, int((c - 0.5) * 20)) for c in confidence]
            gaps = np.bincount(
                places, [o.credit - c for o, c in zip(kept, confidence, strict=True)]
            )
            truth[name] = float(np.abs(gaps).sum()) / len(kept)
            assert report is not None
        else:
            figure = quick(measure, whole)
            truth[name] = figure
    for prompts, each in ((20, 1), (30, 4), (100, 1), (100, 4)):
        drawn = [draw_outcomes(random, prompts, each, **JUDGE) for _ in range(repeats)]
        for name, measure in AUDIT.items():
            if name == "ECE" and prompts * each < 100:
                continue
            found = [measure(outcomes, at) for at, outcomes in enumerate(drawn)]
            yield name, f"{prompts} × {each}", found, truth[name]


def quick(measure: Any, whole: list[Outcome]) -> float:
    """The value alone: with two clusters there is little to draw."""
    figure = measure([replace(one, cluster=str(i % 2)) for i, one in enumerate(whole)], 0)
    return figure.value


def rare_rows(repeats: int) -> Iterator[tuple[str, str, list[Figure | None], float]]:
    """Rare shares, in evaluations and audits; a prompt's responses are alike to some degree."""
    random = np.random.default_rng(2)
    for share in (0.02, 0.05):
        for prompts in (20, 50, 100):
            for alike in (0.05, 0.3, 0.8):
                a, b = (x * (1 - alike) / alike for x in (share, 1 - share))
                tables = [
                    {
                        str(at): tuple(float(x) for x in random.random(4) < rate)
                        for at, rate in enumerate(random.beta(a, b, prompts))
                    }
                    for _ in range(repeats)
                ]
                what = f"{prompts} × 4, alike {alike}"
                found = [estimate_mean(one, share=True, seed=0) for one in tables]
                yield f"evaluation: share of {share:.0%}", what, found, share
                flat = [
                    ([v for r in t.values() for v in r], [k for k in t for _ in "1234"])
                    for t in tables
                ]
                yield (
                    f"audit: share of {share:.0%}",
                    what,
                    [share_figure(*one) for one in flat],
                    share,
                )


def evaluation_rows(repeats: int) -> Iterator[tuple[str, str, list[Figure | None], float]]:
    """Means, shares, differences and the win rate at equal length."""
    random = np.random.default_rng(3)
    for prompts in (20, 100):
        what, kinds = f"{prompts} × 4", ("number", "skewed number", "share of 30%", "win rate")
        rows: dict[str, list[Figure | None]] = {}
        truth = {"number": 0.0, "skewed number": 1.0, "share of 30%": 0.3, "win rate": 0.6}
        gains = {
            "difference of numbers": 0.3,
            "difference of shares 30% → 40%": 0.1,
            "difference of shares 2% → 5%": 0.03,
        }
        for _ in range(repeats):
            level = random.normal(size=prompts)
            skewed, rate = np.exp(0.8 * level[:, None] - 0.32), random.beta(0.7, 1.63, prompts)
            base = {
                "number": level[:, None] + random.normal(size=(prompts, 4)),
                "skewed number": skewed * random.exponential(1, (prompts, 4)),
                "share of 30%": random.random((prompts, 4)) < rate[:, None],
                "win rate": np.repeat(random.beta(3, 2, prompts)[:, None], 4, 1),
            }
            for kind in kinds:
                rows.setdefault(kind, []).append(
                    estimate_mean(_table(base[kind]), share="number" not in kind, seed=0)
                )
            more = base["number"] + 0.3 + 0.3 * random.normal(size=(prompts, 4))
            rows.setdefault("difference of numbers", []).append(
                estimate_difference(_table(base["number"]), _table(more), share=False, seed=0)
            )
            for low, high in ((0.3, 0.4), (0.02, 0.05)):
                u = np.vectorize(normal_cdf)(
                    0.6 * level[:, None] + 0.8 * random.normal(size=(2, prompts, 4))
                )
                rows.setdefault(f"difference of shares {low:.0%} → {high:.0%}", []).append(
                    estimate_difference(_table(u[0] < low), _table(u[1] < high), share=True, seed=0)
                )
        for kind, found in rows.items():
            yield kind, what, found, (truth | gains)[kind]
    for prompts in (30, 100):
        found = []
        for _ in range(repeats):
            delta = random.normal(0, 30, prompts)
            logit = 0.4 + 0.8 * np.tanh(delta / np.std(delta)) + 0.6 * random.normal(size=prompts)
            keys = [str(i) for i in range(prompts)]
            found.append(
                length_controlled(
                    {
                        k: [float(random.random() < sigmoid(x))]
                        for k, x in zip(keys, logit, strict=True)
                    },
                    {k: [d] for k, d in zip(keys, delta, strict=True)},
                    seed=0,
                )
            )
        at_zero = float(np.mean([sigmoid(0.4 + 0.6 * x) for x in random.normal(size=200_000)]))
        yield "win rate at equal length", f"{prompts} × 1", found, at_zero


def _table(values: Any) -> dict[str, tuple[float, ...]]:
    return {str(at): tuple(float(x) for x in row) for at, row in enumerate(values)}


def repeated_rows(repeats: int) -> Iterator[tuple[str, str, list[Figure | None], float]]:
    """Krippendorff's alpha of three judges, stability of repeated picks, cyclic triads."""
    random = np.random.default_rng(6)

    def picks(prompts: int, each: int) -> Any:
        rate = np.repeat(random.beta(1.2, 0.8, prompts), each)
        return random.random((3, prompts * each)) < rate

    def alpha(prompts: int, each: int) -> Figure | None:
        panel = {
            str(judge): [_outcome(f"{at // each}", "12", bool(one)) for at, one in enumerate(row)]
            for judge, row in enumerate(picks(prompts, each))
        }
        return accuracy.measure_alpha(panel, seed=0)

    def stable(prompts: int, each: int) -> Figure | None:
        choices = [[Choice.A if one else Choice.B for one in row] for row in picks(prompts, each).T]
        return consistency.measure_stability(
            [f"{at // each}" for at in range(len(choices))], choices
        )

    def triads(prompts: int, _: int) -> Figure | None:
        made = []
        for prompt in range(prompts):
            worth = dict(zip("abcd", random.normal(size=4), strict=True))
            for pair in ("ab", "ac", "ad", "bc", "bd", "cd"):
                wins = worth[pair[0]] - worth[pair[1]] + 0.7 * random.normal() > 0
                made.append(_outcome(str(prompt), pair, bool(wins)))
        measured = consistency.measure_triads(made)
        return measured and measured.cyclic

    measures = {"Krippendorff's alpha": alpha, "stability": stable, "cyclic triads": triads}
    for name, measure in measures.items():
        whole = 1000 if name == "Krippendorff's alpha" else 4000
        truth = [figure.value for _ in range(5) if (figure := measure(whole, 1)) is not None]
        for prompts, each in ((30, 1), (100, 2)):
            found = [measure(prompts, each) for _ in range(repeats)]
            yield name, f"{prompts} × {each}", found, math.fsum(truth) / len(truth)


def _outcome(cluster: str, ids: str, first: bool) -> Outcome:
    preference = 0.9 if first else 0.1
    judgment = Judgment(ids[0], ids[1], preference, preference, (), None, None, 0, ())
    return Outcome(cluster, Choice.A, (10, 10), judgment)


def saturated_rows(repeats: int) -> Iterator[tuple[str, str, list[Figure | None], float]]:
    """Position bias of a judge whose log-odds reach the cap."""
    random = np.random.default_rng(4)
    for skill, spread in ((4.0, 3.0), (7.0, 3.0), (9.0, 2.0)):
        found = [
            consistency.measure_position(
                draw_outcomes(random, 150, 1, skill=skill, spread=spread, bias=3.0), seed=0
            ).bias
            for _ in range(repeats)
        ]
        yield "position bias 3.0, saturated", f"content ±{skill:g}, 150 × 1", found, 3.0


def print_coverage(repeats: int) -> None:
    """Print how often each interval holds the truth, and how often it lies beside it."""
    print("| figure | prompts × items | truth | mean | holds | below | above |")
    print("|---" * 7 + "|")
    for rows in (audit_rows, saturated_rows, repeated_rows, rare_rows, evaluation_rows):
        for name, what, found, truth in rows(repeats):
            kept = [one for one in found if one is not None and one.method != "none"]
            if not kept:
                print(f"| {name} | {what} | {truth:.3f} | – | no interval | – | – |", flush=True)
                continue
            below = np.mean([one.high is not None and one.high < truth for one in kept])
            above = np.mean([one.low is not None and one.low > truth for one in kept])
            mean = np.mean([one.value for one in kept])
            shares = " | ".join(f"{x:.3f}" for x in (truth, mean, 1 - below - above, below, above))
            print(f"| {name} | {what} | {shares} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    print_coverage(parser.parse_args().repeats)


if __name__ == "__main__":
    main()
