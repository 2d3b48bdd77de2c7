"""Rubric: yes-or-no propositions about each response, combined by weights.

Rule-based rewards (Mu et al. 2024, arXiv 2411.01111): propositions about a response, each with the
grader's probability as its feature φ, and a reward Σ w·φ. Here every principle is one proposition,
that the response keeps to it. Small graders say yes to most things, so it is asked in both
polarities, and the agreeableness that both answers share cancels in log-odds, as a position bias
does:

    s⁺ = log-odds of yes to "does it keep to this?",  s⁻ = to "does it go against this?"
    φ = σ((s⁺ − s⁻)/2) in [0, 1],      logit = scale · w · (φ_a − φ_b)

The log-odds of one judge's propositions are *averaged* by the principles' weights before they
become a probability (`rlaif.judging.aggregate`), which is the paper's weighted sum up to ``scale``.
Deviations: one proposition per principle, no derived propositions, and a preference in place of an
addition to a reward model's score. Weights that were fitted as in the paper come from
`rlaif.judging.methods.rubric`.

Cost: two next-token calls per response and principle (one with a single polarity), the same calls
in every comparison; all questions about a response share their prefix.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rlaif.constitution import Principle
from rlaif.engines import Capability, Engine
from rlaif.engines.ask import run_together
from rlaif.judging.judge import Asked, ask, label_request
from rlaif.judging.position import sigmoid, split_orders
from rlaif.judging.protocol import Cost, Needs
from rlaif.judging.reading import Reading, choose, read_labels
from rlaif.judging.transforms import Transform
from rlaif.records import Choice, Comparison, Order, Prompt, Response, Verdict
from rlaif.records.tool_use import spoken
from rlaif.templates import Template

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
    """Fitting the weights of a rubric to responses whose order of quality is known.

    Rule-based rewards (Mu et al. 2024, arXiv 2411.01111): responses of known classes (ideal,
    acceptable, unacceptable, …) are written on purpose; any of a better class must score above
    any of a worse one to the same prompt. The weights minimise the hinge

        mean over pairs of  max(0, margin + s_worse − s_better),      s = Σ w·φ

    by AdamW, as there. Deviation: no reward model's score is added to s, and weights start at 0.

    Shapes: N responses, K propositions, M pairs.

    Return the weight of each proposition, of either sign.

    Args:
        features_NK: φ of every response and proposition, in [0, 1].
        ranks: Class of every response; smaller is better.
        prompts: Id of the prompt of every response; only those of one prompt are compared.
        margin: By how much a better response should score above a worse one, ≥ 0.
        rate: Learning rate of AdamW.
        steps: Of full-batch AdamW.
        decay: Weight decay of AdamW.

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
        raise ValueError("no prompt has responses of two classes, so there is nothing to fit")
    indices = np.array(pairs, dtype=np.int64)
    return indices[:, 0], indices[:, 1]


TEMPLATE = "judge/rubric"
LABELS = ("Yes", "No")


@dataclass(frozen=True, slots=True)
class Rubric:
    """How answers become log-odds."""

    scale: float = 4.0
    """Log-odds per unit of φ, > 0."""

    both_polarities: bool = True
    weights: Mapping[str, float] = field(default_factory=dict)
    """Principle id to w, of any sign; 1 where none is given."""


@dataclass(frozen=True, slots=True)
class RubricJudge:
    """Asks whether each response keeps to each principle. Build with `build_judge`."""

    name: str
    engine: Engine
    template: Template
    min_mass: float = 0.0
    """When Yes and No together are less probable than this, the judge abstains."""

    settings: Rubric = field(default_factory=Rubric)
    method: str = "rubric"

    @property
    def needs(self) -> Needs:
        """Label log-probabilities; also a reply that we may start, if the template does so."""
        labels = frozenset({Capability.LABEL_LOGPROBS, Capability.TOP_LOGPROBS})
        if self.template.roles[-1] == "assistant":
            return (labels, frozenset({Capability.PREFILL}))
        return (labels,)

    @property
    def template_fingerprints(self) -> Mapping[str, str]:
        """The one template it shows."""
        return {self.template.name: self.template.fingerprint}

    @property
    def cost(self) -> Cost:
        """One label per response and polarity."""
        return Cost("response", labels=len(self._polarities))

    def transforms(self, principle: str) -> tuple[Transform, ...]:  # noqa: ARG002 - there is none
        """Nothing."""
        return ()

    async def judge(
        self, prompt: Prompt, comparison: Comparison, principles: Sequence[Principle]
    ) -> tuple[Verdict, ...]:
        """One verdict per principle; there is no order."""
        return tuple(
            await run_together([self._verdict(prompt, comparison, one) for one in principles])
        )

    @property
    def _polarities(self) -> tuple[bool, ...]:
        """Whether the question is turned against the principle."""
        return (False, True) if self.settings.both_polarities else (False,)

    async def _verdict(
        self, prompt: Prompt, comparison: Comparison, principle: Principle
    ) -> Verdict:
        asked = await run_together(
            [
                self._ask(prompt, response, principle, against)
                for response in (comparison.first, comparison.second)
                for against in self._polarities
            ]
        )
        read = [self._read(one) for one in asked]
        reason = next((one.reason for one in read if one.reason), "")
        scores = None if reason else self._scores([one.logit or 0.0 for one in read])
        logit = None
        if scores is not None:
            weight = self.settings.weights.get(principle.id, 1.0)
            logit = self.settings.scale * weight * (scores[0] - scores[1])
        masses = [one.mass for one in read if one.mass is not None]
        problem = next((one.problem for one in asked if one.problem), "")
        return Verdict(
            judge=self.name,
            method=self.method,
            principle=principle.id,
            order=Order.NONE,
            choice=Choice.ABSTAIN if logit is None else choose(logit),
            logit=logit,
            mass=min(masses) if len(masses) == len(read) else None,
            scores=scores,
            reason=reason,
            raw=problem,
            calls=() if problem else tuple(one.call for one in asked),
        )

    def _scores(self, logits: Sequence[float]) -> tuple[float, float]:
        """φ of both responses, from log-odds of yes, response by response."""
        each = len(self._polarities)
        return proposition(logits[:each]), proposition(logits[each:])

    async def _ask(
        self, prompt: Prompt, response: Response, principle: Principle, against: bool
    ) -> Asked:
        messages = self.template.render(
            statement=principle.statement,
            against=against,
            conversation=spoken(prompt.messages),
            response=response.text,
        )
        return await ask(self.engine, label_request(messages, LABELS))

    def _read(self, asked: Asked) -> Reading:
        if asked.reason or asked.reply is None:
            return Reading(Choice.ABSTAIN, reason=asked.reason)
        return read_labels(asked.reply, min_mass=self.min_mass)


def proposition(logits: Sequence[float]) -> float:
    """Return φ, the probability that a response keeps to a principle.

    Args:
        logits: Log-odds of yes to the question for it and, if asked, to the one against it. What
            both share, a leaning towards yes, cancels.
    """
    if len(logits) == 1:
        return sigmoid(logits[0])
    return sigmoid(split_orders(logits[0], -logits[1]).content)
