"""Position: what a judge thinks of the responses, apart from what it thinks of their places.

A judge that reads A and B adds something to whatever stands first. Asked in both orders it gives

    s12 = log-odds that the first response is better, shown first
    s21 = log-odds that the first response is better, shown second

and if the place adds the same log-odds each time, ``s12 = content + bias`` and
``s21 = content − bias``.
Averaging log-odds cancels such a bias exactly; averaging probabilities (Lee et al. 2023,
arXiv 2309.00267) does not. Saturated log-odds break the assumption, so they are capped first: a
judge that is sure of A in both orders then comes out even, however unequal its two certainties.
"""

import math
from dataclasses import dataclass

LOGIT_CAP = 10.0
"""Log-odds beyond ±10 (p = 0.99995) are rounding of the server more than opinion of the judge."""


@dataclass(frozen=True, slots=True)
class Split:
    """Both orders, taken apart."""

    content: float
    """Log-odds that the first response is better, whatever its place."""

    bias: float
    """Log-odds added to whatever is shown first; negative for a judge that favours the second."""


def split_orders(shown_first: float, shown_second: float, *, cap: float = LOGIT_CAP) -> Split:
    """Take content and position bias apart.

    Args:
        shown_first: s12, log-odds that the first response is better when it is shown first.
        shown_second: s21, the same when it is shown second.
        cap: Both are cut to ± this before averaging; infinity turns it off.
    """
    s12, s21 = cut(shown_first, cap), cut(shown_second, cap)
    return Split(content=(s12 + s21) / 2.0, bias=(s12 - s21) / 2.0)


def split_agreeing(shown_first: float, shown_second: float, *, cap: float = LOGIT_CAP) -> Split:
    """The same, but orders that prefer different responses say nothing: content 0.

    Sun et al. 2023 (SALMON, arXiv 2310.05910). An order that is even agrees with neither side.
    """
    split = split_orders(shown_first, shown_second, cap=cap)
    return split if shown_first * shown_second > 0.0 else Split(content=0.0, bias=split.bias)


def cut(value: float, bound: float) -> float:
    """Cut a number to ± bound."""
    return max(-bound, min(bound, value))


def sigmoid(logit: float) -> float:
    """Return the probability behind log-odds, without overflow at either end."""
    if logit >= 0.0:
        return 1.0 / (1.0 + math.exp(-logit))
    odds = math.exp(logit)
    return odds / (1.0 + odds)
