"""Calibration: one temperature for a judge's log-odds, fitted on gold, applied on record.

Temperature scaling (Guo et al. 2017, arXiv 1706.04599) divides log-odds by T, which changes how
sure a judge is and never which response it prefers. T belongs to one judge: model, method,
settings, templates and orders. It is fitted on opinions, which is what it is applied to.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from rlaif.errors import ConfigError
from rlaif.judging.position import sigmoid
from rlaif.records.plain import Plain

FORMAT = 1
_LEAST, _MOST = 1e-3, 1e3  # where a factor on log-odds is looked for
_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Calibration(Plain):
    """A fitted temperature and what it rests on."""

    t: float
    """Above 1: the judge was too sure; below 1: not sure enough."""

    judge: str
    """Name it had when it was audited, for readers; the fingerprint decides."""

    fingerprint: str
    """Of the judge, see `rlaif.judging.build`."""

    method: str
    question: str
    """``name@fingerprint`` of the constitution or principle it was asked."""

    fitted_on: int
    """Opinions in the half it was fitted on."""

    reported_on: int
    """Opinions in the other half, which the figures below are from."""

    ece_before: Mapping[str, Any]
    ece_after: Mapping[str, Any]
    nll_before: float
    nll_after: float
    gold: Mapping[str, str] = field(default_factory=dict)
    """Gold set to its fingerprint."""

    format: int = FORMAT


def fit_temperature(logits: Sequence[float], firsts: Sequence[bool]) -> float | None:
    """Return the T that makes the gold labels likeliest under σ(logit / T).

    The likelihood is concave in 1/T, so there is one answer, found by bisection of its slope.

    Args:
        logits: Finite log-odds that the first response is better.
        firsts: Whether it is.

    Returns:
        None where no T can be fitted: log-odds do not point towards gold at all (T would be
        infinite), never point away from it (T would be 0), or are all 0.
    """
    if not any(logits):
        return None
    low, high = math.log(_LEAST), math.log(_MOST)
    if _slope(logits, firsts, math.exp(low)) <= 0.0 or _slope(logits, firsts, math.exp(high)) >= 0:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        if _slope(logits, firsts, math.exp(middle)) > 0.0:
            low = middle
        else:
            high = middle
    return math.exp(-(low + high) / 2.0)


def negative_log_likelihood(logits: Sequence[float], firsts: Sequence[bool], t: float) -> float:
    """Return the mean of −ln P(gold) under σ(logit / T), in nats; always ½ gives 0.693."""
    losses = [
        _softplus(-logit / t if first else logit / t)
        for logit, first in zip(logits, firsts, strict=True)
    ]
    return math.fsum(losses) / len(losses)


def check_calibration(calibration: Calibration, *, judge: str, fingerprint: str) -> None:
    """Check that a calibration was fitted to this very judge.

    Raises:
        ConfigError: It was fitted to another one.
    """
    if calibration.fingerprint != fingerprint:
        raise ConfigError(
            f"judge {judge!r}: the calibration was fitted to another judge "
            f"({calibration.judge!r}, method {calibration.method}): model, method, settings, "
            "templates or orders differ",
            hint="audit this judge (rlaif audit) and name the calibration that writes",
        )


def read_calibration(path: Path) -> Calibration:
    """Read what an audit wrote.

    Raises:
        ConfigError: No such file, damaged, or written by a newer version.
    """
    try:
        calibration = Calibration(**orjson.loads(path.read_bytes()))
        usable = 0.0 < float(calibration.t) < math.inf
    except FileNotFoundError:
        raise ConfigError(
            f"calibration: {path}: no such file", hint="rlaif audit writes it"
        ) from None
    except (OSError, ValueError, TypeError) as problem:
        raise ConfigError(f"calibration: {path}: cannot be read: {problem}") from None
    if calibration.format > FORMAT:
        raise ConfigError(f"calibration: {path}: written by a newer version")
    if not usable:
        raise ConfigError(f"calibration: {path}: t must be above 0, not {calibration.t!r}")
    return replace(calibration, t=float(calibration.t))


def _slope(logits: Sequence[float], firsts: Sequence[bool], factor: float) -> float:
    """Slope of the log-likelihood in the factor 1/T; falls as the factor grows."""
    return math.fsum(
        (first - sigmoid(factor * logit)) * logit
        for logit, first in zip(logits, firsts, strict=True)
    )


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
