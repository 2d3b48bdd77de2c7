"""A calibration of the exported label: fitted, tried on prompts it has not seen, kept if it helps.

Prompts are dealt into folds by a hash of their content. Each fold's labels are calibrated by a fit
to the other folds, so that every label is tried once by a fit that has not seen its prompt. Both
sides of the trial are what a run would export, clamps included. The calibration is kept, fitted
to all folds, only if the interval of the change in likelihood lies below 0 and neither ECE nor
Brier score got worse. Gold ties have no right side and take no part.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlaif.auditing.gold import side
from rlaif.auditing.statistics.reliability import Reliability, reliability_of
from rlaif.evaluation.intervals import Figure, Numbers, bootstrap_figure, mean_of
from rlaif.judging import sigmoid
from rlaif.judging.calibration import Calibration, fit_labels, scaling
from rlaif.judging.position import LOGIT_CAP
from rlaif.records import content_uniform
from rlaif.records.plain import Plain

FOLDS = 5
FEWEST = 40
"""Labels with decided gold that a fit needs: with fewer, T would be noise."""

FEWEST_PROMPTS = 20

_SURE = sigmoid(LOGIT_CAP)  # a label surer than this loses no more when it is wrong


@dataclass(frozen=True, slots=True)
class Label:
    """One label with its gold."""

    cluster: str
    before_clamp: float
    """What a calibration is applied to."""

    exported: float
    first: bool
    """Whether the first response is the better one."""


@dataclass(frozen=True, slots=True)
class Trial(Plain):
    """Exported labels without and with a calibration, on prompts that it was not fitted to."""

    labels: int
    prompts: int
    t: float
    """Fitted to all of them."""

    soften: float
    ece_before: Figure
    ece_after: Figure
    brier_before: Figure
    brier_after: Figure
    nll_before: float
    """Mean −ln P(gold), labels beyond the cap of log-odds taken at it; always ½ gives 0.693."""

    nll_after: float
    nll_change: Figure
    """After less before; negative is better."""

    brier_change: Figure
    ece_change: float
    """Of the plain, binned ECE."""

    @property
    def helps(self) -> bool:
        """Whether labels got better with confidence in likelihood, and in nothing worse."""
        high = self.nll_change.high
        return high is not None and high < 0.0 and self.brier_change.value < 0.0 > self.ece_change

    def __str__(self) -> str:
        """Return one sentence."""
        change = self.nll_change
        ends = "no interval"
        if change.low is not None and change.high is not None:
            ends = f"{change.low:+.3f}, {change.high:+.3f}"
        return (
            f"on prompts not fitted on ({self.labels} labels) ECE {self.ece_before.value:.3f} → "
            f"{self.ece_after.value:.3f}, Brier {self.brier_before.value:.3f} → "
            f"{self.brier_after.value:.3f}, NLL {self.nll_before:.3f} → {self.nll_after:.3f} "
            f"(change {change.value:+.3f} [{ends}])"
        )


def try_calibration(
    labels: Sequence[Label], clamp: Callable[[float], float], *, seed: int
) -> Trial | str:
    """Fit a calibration to labels and try it on prompts it has not seen.

    Args:
        labels: Of decided gold pairs.
        clamp: What is done to a label after its calibration.
        seed: Of the folds and the intervals.

    Returns:
        The trial, or why there is none.
    """
    clusters = [label.cluster for label in labels]
    prompts = len(set(clusters))
    if len(labels) < FEWEST or prompts < FEWEST_PROMPTS:
        return (
            f"no calibration: {len(labels)} labels with decided gold on {prompts} prompts, and at "
            f"least {FEWEST} on {FEWEST_PROMPTS} are needed"
        )
    fold_of = [int(FOLDS * content_uniform(seed, "fold", cluster)) for cluster in clusters]
    after = [0.0] * len(labels)
    whole = _fit(labels)
    for fold in range(FOLDS):
        fitted = _fit([one for one, place in zip(labels, fold_of, strict=True) if place != fold])
        if fitted is None or whole is None:
            return (
                "no calibration: the labels do not point towards gold, or never point away from it"
            )
        for at, label in enumerate(labels):
            if fold_of[at] == fold:
                after[at] = clamp(_scaled(label.before_clamp, *fitted))
    assert whole is not None, "every fold was fitted"
    before = [label.exported for label in labels]
    firsts = [label.first for label in labels]
    old, new = (_reliability(side, firsts, clusters, seed) for side in (before, after))
    loss = [_loss(side, firsts) for side in (before, after)]
    squared = [(np.array(side) - np.array(firsts)) ** 2 for side in (before, after)]
    nll_change, brier_change = (
        bootstrap_figure(mean_of(pair[1] - pair[0]), clusters, seed=seed)
        for pair in (loss, squared)
    )
    assert nll_change is not None, "there are labels"
    assert brier_change is not None, "there are labels"
    return Trial(
        labels=len(labels),
        prompts=prompts,
        t=whole[0],
        soften=whole[1],
        ece_before=old.ece,
        ece_after=new.ece,
        brier_before=old.brier,
        brier_after=new.brier,
        nll_before=float(loss[0].mean()),
        nll_after=float(loss[1].mean()),
        nll_change=nll_change,
        brier_change=brier_change,
        ece_change=new.binned - old.binned,
    )


def to_calibration(
    trial: Trial,
    *,
    judge: str,
    fingerprint: str,
    method: str,
    question: str,
    asked: int | None,
    gold: Mapping[str, str],
) -> Calibration:
    """Return what a run applies, for a trial that helped; see `Calibration` for the arguments."""
    return Calibration(
        t=trial.t,
        judge=judge,
        fingerprint=fingerprint,
        method=method,
        question=question,
        fitted_on=trial.labels,
        reported_on=trial.labels,
        ece_before=trial.ece_before.to_json(),
        ece_after=trial.ece_after.to_json(),
        nll_before=trial.nll_before,
        nll_after=trial.nll_after,
        gold=dict(gold),
        soften=trial.soften,
        asked=asked,
    )


def _fit(labels: Sequence[Label]) -> tuple[float, float] | None:
    return fit_labels([one.before_clamp for one in labels], [one.first for one in labels])


def _scaled(probability: float, t: float, soften: float) -> float:
    for transform in scaling(t, soften):
        probability = transform.apply(probability)
    return probability


def _loss(labels: Sequence[float], firsts: Sequence[bool]) -> Numbers:
    kept = np.clip(np.array(labels), 1.0 - _SURE, _SURE)
    losses: Numbers = -np.log(np.where(np.array(firsts), kept, 1.0 - kept))
    return losses


def _reliability(
    labels: Sequence[float], firsts: Sequence[bool], clusters: Sequence[str], seed: int
) -> Reliability:
    credits = []
    for label, first in zip(labels, firsts, strict=True):
        chosen = side(label)
        credits.append(0.5 if chosen == 0 else float((chosen == 1) is first))
    report = reliability_of(
        [max(label, 1.0 - label) for label in labels], credits, clusters, seed=seed
    )
    assert report is not None, "there are labels"
    return report
