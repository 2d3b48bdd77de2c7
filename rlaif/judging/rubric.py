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
`rlaif.judging.rubric_weights`.

Cost: two next-token calls per response and principle (one with a single polarity), the same calls
in every comparison; all questions about a response share their prefix.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rlaif.constitution import Principle
from rlaif.engines import Capability, Engine
from rlaif.engines.ask import run_together
from rlaif.judging.asking import Asked, ask, label_request
from rlaif.judging.position import sigmoid, split_orders
from rlaif.judging.protocol import Cost, Needs
from rlaif.judging.reading import Reading, choose, read_labels
from rlaif.judging.transforms import Transform
from rlaif.records import Choice, Comparison, Order, Prompt, Response, Verdict
from rlaif.templates import Template

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
            conversation=prompt.messages,
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
