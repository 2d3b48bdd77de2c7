"""Rubric: yes-or-no propositions about each response, combined by weights.

Rule-based rewards (Mu et al. 2024, arXiv 2411.01111): propositions about a response, each with the
grader's probability as its feature φ, and a reward Σ w·φ. Here every principle is one proposition,
that the response keeps to it. Small graders say yes to most things, so it is asked in both
polarities, and the agreeableness that both answers share cancels in log-odds, as a position bias
does:

    s⁺ = log-odds of yes to "does it keep to this?",  s⁻ = to "does it go against this?"
    φ = σ((s⁺ − s⁻)/2) in [0, 1],      logit = scale · w · (φ_a − φ_b)

The log-odds of the propositions that one judge is asked are *summed* before they become a
probability (`rlaif.judging.aggregate`), and only the sum is capped: one of twenty that differs
fully gives σ(4), as if it had been the only one. Principles' weights enter relative to their mean;
a proposition that abstains adds nothing. ``combine: mean`` averages those that speak.
Deviations: one proposition per principle, no derived propositions, and a preference in place of an
addition to a reward model's score. `fit_rubric_weights` fits weights as in the paper.

Cost: two next-token calls per response and principle (one with a single polarity), the same calls
in every comparison; all questions about a response share their prefix.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rlaif.config.judge import Rubric
from rlaif.judging.methods.flow import Flow, Outcome, Question, label_request
from rlaif.judging.position import sigmoid, split_orders
from rlaif.judging.reading import read_labels, read_together
from rlaif.records.tool_use import spoken

TEMPLATE = "judge/rubric"
LABELS = ("Yes", "No")


def flow(question: Question[Rubric]) -> Flow:
    """Ask whether each response keeps to the principle and, turned round, whether it breaks it."""
    polarities = (False, True) if question.settings.both_polarities else (False,)
    replies = yield tuple(
        label_request(
            question.render(
                statement=question.principle.statement,
                against=against,
                conversation=spoken(question.prompt.messages),
                response=response.text,
            ),
            LABELS,
        )
        for response in question.responses
        for against in polarities
    )
    read = [read_labels(reply, min_mass=question.min_mass) for reply in replies]
    reason, mass = read_together(read)
    if reason:
        return Outcome(mass=mass, reason=reason)
    logits = [one.logit or 0.0 for one in read]
    each = len(polarities)
    return Outcome(scores=(proposition(logits[:each]), proposition(logits[each:])), mass=mass)


def proposition(logits: Sequence[float]) -> float:
    """Return φ, the probability that a response keeps to a principle.

    Args:
        logits: Log-odds of yes to the question for it and, if asked, to the one against it. What
            both share, a leaning towards yes, cancels.
    """
    if len(logits) == 1:
        return sigmoid(logits[0])
    return sigmoid(split_orders(logits[0], -logits[1]).content)


def factor(settings: Rubric, principle: str) -> float:
    """Return log-odds per unit of φ, times the principle's weight."""
    return settings.scale * settings.weights.get(principle, 1.0)


def summed(settings: Rubric) -> bool:
    """Return whether log-odds of propositions are summed in place of averaged."""
    return settings.combine == "sum"


Floats: TypeAlias = npt.NDArray[np.float64]

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


def fit_rubric_weights(
    features_NK: npt.ArrayLike,
    ranks: Sequence[int],
    prompts: Sequence[str],
    *,
    margin: float = 1.0,
    rate: float = 0.01,
    steps: int = 1000,
    decay: float = 0.01,
) -> Floats:
    """Fit the weights of a rubric to responses whose order of quality is known.

    Rule-based rewards (Mu et al. 2024, arXiv 2411.01111): responses of known classes (ideal,
    acceptable, unacceptable, …) are written on purpose; any of a better class must score above
    any of a worse one to the same prompt. The weights minimise the hinge

        mean over pairs of  max(0, margin + s_worse − s_better),      s = Σ w·φ

    by AdamW, as there. Deviation: no reward model's score is added to s, and weights start at 0.

    Shapes: N responses, K propositions, M pairs.

    Args:
        features_NK: φ of every response and proposition, in [0, 1].
        ranks: Class of every response; smaller is better.
        prompts: Id of the prompt of every response; only those of one prompt are compared.
        margin: By how much a better response should score above a worse one, ≥ 0.
        rate: Learning rate of AdamW.
        steps: Of full-batch AdamW.
        decay: Weight decay of AdamW.

    Returns:
        The weight of each proposition, of either sign.

    Raises:
        ValueError: Numbers of responses differ, or no prompt has two classes.
    """
    phi_NK = np.asarray(features_NK, dtype=np.float64)
    if phi_NK.ndim != 2 or not len(phi_NK) == len(ranks) == len(prompts):
        raise ValueError("features, ranks and prompts must speak about the same responses")
    better_M, worse_M = _ordered_pairs(ranks, prompts)
    gap_MK = phi_NK[better_M] - phi_NK[worse_M]
    weights_K = np.zeros(phi_NK.shape[1])
    mean_K, square_K = np.zeros_like(weights_K), np.zeros_like(weights_K)
    for step in range(1, steps + 1):
        short_M = gap_MK @ weights_K < margin
        slope_K = -(gap_MK * short_M[:, None]).mean(axis=0)
        mean_K = _BETA1 * mean_K + (1 - _BETA1) * slope_K
        square_K = _BETA2 * square_K + (1 - _BETA2) * slope_K**2
        first_K = mean_K / (1 - _BETA1**step)
        second_K = square_K / (1 - _BETA2**step)
        weights_K = weights_K * (1 - rate * decay)
        weights_K = weights_K - rate * first_K / (np.sqrt(second_K) + _EPS)
    return weights_K


def _ordered_pairs(
    ranks: Sequence[int], prompts: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the better and the worse response of every pair that has both."""
    pairs = [
        (better, worse)
        for better in range(len(ranks))
        for worse in range(len(ranks))
        if ranks[better] < ranks[worse] and prompts[better] == prompts[worse]
    ]
    if not pairs:
        raise ValueError("nothing to fit: no prompt has responses of two classes")
    indices = np.array(pairs, dtype=np.int64)
    return indices[:, 0], indices[:, 1]
