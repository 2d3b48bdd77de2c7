"""Calibration: makes the label that is exported as sure as it is right; fitted on gold.

The label is what is left after pooling: of one judge over its principles, or of a whole panel.
Temperature scaling (Guo et al. 2017, arXiv 1706.04599) divides its log-odds by T. That favours
neither response and never changes which one is preferred. Labels of exactly 0 and 1 (verdicts read
from words) have no log-odds, so they are drawn towards ½ by a fitted factor first; where labels
have one level besides ½, the two together are a fitted probability for it.

A temperature of single opinions, which earlier versions fitted (format 1), is not one of the
label: the mean of 16 calibrated opinions is far less sure than it is right. Such files are still
applied to opinions, as they were fitted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from rlaif.errors import ConfigError
from rlaif.judging.position import LOGIT_CAP, sigmoid
from rlaif.judging.transforms import Soften, Temperature, Transform
from rlaif.records.plain import Plain

FORMAT = 2
_OF_OPINIONS = 1  # the format whose temperature belongs to single opinions
_LEAST, _MOST = 1e-3, 1e3  # where a factor on log-odds is looked for
_HALVINGS = 60
_FACTORS = (0.99, 0.98, 0.95, 0.9, 0.8, 0.7)
"""How far labels may be drawn towards ½ first, where some of them are 0 or 1."""

_ROUNDING = 1e-6

_Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration(Plain):
    """What is done to labels, and what it rests on."""

    t: float
    """Above 1: the labels were too sure; below 1: not sure enough."""

    judge: str
    """Name it had when it was audited, or ``panel``; for readers: the fingerprint decides."""

    fingerprint: str
    """Of the judge, see `rlaif.judging.build`, or of the panel."""

    method: str
    question: str
    """``name@fingerprint`` of the constitution or principle it was asked."""

    fitted_on: int
    """Labels with decided gold that it was fitted on."""

    reported_on: int
    """Labels that the figures below are from, each with a fit to the other prompts."""

    ece_before: Mapping[str, Any]
    ece_after: Mapping[str, Any]
    nll_before: float
    nll_after: float
    gold: Mapping[str, str] = field(default_factory=dict)
    """Gold set to its fingerprint."""

    format: int = FORMAT
    soften: float = 1.0
    """Factor towards ½, before the temperature; 1 leaves labels as they are."""

    asked: int | None = None
    """Principles behind each label; None in format 1."""

    @property
    def of_opinions(self) -> bool:
        """Whether it was fitted to single opinions, by an earlier version."""
        return self.format == _OF_OPINIONS

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """What is done, in order."""
        return scaling(self.t, self.soften)


def scaling(t: float, soften: float) -> tuple[Transform, ...]:
    """Return a fit as transforms."""
    return (*((Soften(soften),) if soften < 1.0 else ()), Temperature(t))


def fit_labels(labels: Sequence[float], firsts: Sequence[bool]) -> tuple[float, float] | None:
    """Return the temperature, and the factor towards ½ before it, that make gold likeliest.

    The factor is 1 unless there are labels at or beyond the cap of log-odds.

    Args:
        labels: Probabilities that the first response is better, in [0, 1].
        firsts: Whether it is.

    Returns:
        None where nothing can be fitted, as for `fit_temperature`.
    """
    p = np.asarray(labels, dtype=np.float64)
    edge = sigmoid(-LOGIT_CAP) * (1.0 - _ROUNDING)
    saturated = bool(((p < edge) | (p > 1.0 - edge)).any())
    best: tuple[float, float] | None = None
    least = math.inf
    for factor in _FACTORS if saturated else (1.0,):
        softened = 0.5 + factor * (p - 0.5)
        logits = np.log(softened) - np.log1p(-softened)
        t = fit_temperature(logits, firsts)
        if t is None:
            continue
        loss = negative_log_likelihood(logits, firsts, t)
        if loss < least - _ROUNDING:
            best, least = (t, factor), loss
    return best


def fit_temperature(logits: Sequence[float] | _Numbers, firsts: Sequence[bool]) -> float | None:
    """Return the T that makes the gold labels likeliest under σ(logit / T).

    The likelihood is concave in 1/T, so there is one answer, found by bisection of its slope.

    Args:
        logits: Finite log-odds that the first response is better.
        firsts: Whether it is.

    Returns:
        None where no T can be fitted: log-odds do not point towards gold at all (T would be
        infinite), never point away from it (T would be 0), or are all 0.
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(firsts, dtype=np.float64)
    if not x.any():
        return None

    def slope(factor: float) -> float:
        """Of the log-likelihood in the factor 1/T; falls as the factor grows."""
        said = 1.0 / (1.0 + np.exp(-np.clip(factor * x, -700.0, 700.0)))
        return float(((y - said) * x).sum())

    low, high = math.log(_LEAST), math.log(_MOST)
    if slope(_LEAST) <= 0.0 or slope(_MOST) >= 0.0:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if slope(math.exp(middle)) > 0.0 else (low, middle)
    return math.exp(-(low + high) / 2.0)


def negative_log_likelihood(
    logits: Sequence[float] | _Numbers, firsts: Sequence[bool], t: float
) -> float:
    """Return the mean of −ln P(gold) under σ(logit / T), in nats; always ½ gives 0.693."""
    sign = np.where(np.asarray(firsts, dtype=bool), 1.0, -1.0)
    return float(np.logaddexp(0.0, -sign * np.asarray(logits, dtype=np.float64) / t).mean())


def check_calibration(
    calibration: Calibration, *, judge: str, fingerprint: str, words: bool = False
) -> None:
    """Check that a calibration was fitted to this very judge, or panel, and can be applied.

    Args:
        calibration: As it was read.
        judge: Its name in the file, for the message.
        fingerprint: Its own.
        words: Whether its opinions are read from words.

    Raises:
        ConfigError: It was fitted to another one; or to opinions in words, which have no log-odds.
    """
    if calibration.fingerprint != fingerprint:
        raise ConfigError(
            f"judge {judge!r}: the calibration was fitted to another judge "
            f"({calibration.judge!r}, method {calibration.method}): model, method, settings, "
            "templates or orders differ",
            hint="audit this judge (rlaif audit) and name the calibration that writes",
        )
    if calibration.of_opinions and words:
        raise ConfigError(
            f"judge {judge!r}: an earlier version fitted this calibration to single opinions, and "
            "opinions read from words are 0, ½ or 1: it would change nothing",
            hint="audit this judge again (rlaif audit): labels are calibrated after pooling now",
        )


def check_asked(calibration: Calibration, asked: int, *, who: str) -> None:
    """Check that labels rest on as many principles as those it was fitted to.

    Raises:
        ConfigError: A label of one principle and the mean of sixteen differ in how sure they are.
    """
    if calibration.asked not in (None, asked):
        raise ConfigError(
            f"{who}: the calibration was fitted to labels of {calibration.asked} principle(s), and "
            f"labels here are of {asked}",
            hint="audit with the same constitution and the same principles: {choose: …} as here",
        )


def read_calibration(path: Path) -> Calibration:
    """Read what an audit wrote.

    Raises:
        ConfigError: No such file, damaged, or written by a newer version.
    """
    try:
        data = orjson.loads(path.read_bytes())
        calibration = Calibration(**{"format": _OF_OPINIONS, **data})
        usable = 0.0 < float(calibration.t) < math.inf and 0.0 < float(calibration.soften) <= 1.0
    except FileNotFoundError:
        raise ConfigError(
            f"calibration: {path}: no such file", hint="rlaif audit writes it"
        ) from None
    except (OSError, ValueError, TypeError) as problem:
        raise ConfigError(f"calibration: {path}: cannot be read: {problem}") from None
    if calibration.format > FORMAT:
        raise ConfigError(f"calibration: {path}: written by a newer version")
    if not usable:
        raise ConfigError(
            f"calibration: {path}: t must be above 0 and soften in (0, 1], not "
            f"{calibration.t!r} and {calibration.soften!r}"
        )
    return replace(calibration, t=float(calibration.t), soften=float(calibration.soften))
