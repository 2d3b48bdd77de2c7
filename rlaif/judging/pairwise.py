"""Pairwise judging: which of two responses is better, read from the next token's probabilities.

RL-CAI labels without chain of thought (Bai et al. 2022, arXiv 2212.08073, section 4): one
principle, two options, the log-probabilities of the option labels normalised to a soft label. Both
orders are asked by default, as in Lee et al. 2023 (arXiv 2309.00267); how they are combined stands
in `rlaif.judging.position`. Deviations: a chat model and chat turns in place of a few-shot
transcript, and the label is the letter itself, the first token of the reply.

Cost: one next-token call per principle and order.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rlaif.constitution import Principle
from rlaif.engines import Capability, Engine, Label, Reply, request_key
from rlaif.engines.ask import ask_all
from rlaif.errors import CallFailed
from rlaif.judging.protocol import (
    FAILED_REASON,
    LOW_MASS_REASON,
    REFUSED_REASON,
    UNREADABLE_REASON,
    Needs,
)
from rlaif.records import Choice, Comparison, Order, Prompt, Verdict, content_uniform
from rlaif.templates import Template

TEMPLATE = "judge/pairwise"
LABELS = ("A", "B")

Orders = Literal["both", "one"]

_SMALLEST_REST = 2.0**-24
"""Servers report log-probabilities as float32: one of 0.0 means 1 − p is below this."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reply says about A against B."""

    choice: Choice
    logit: float | None = None
    """Log-odds of A against B; None when it abstains."""

    mass: float | None = None
    """Probability of A and B together, as far as reported."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class PairwiseJudge:
    """Asks for A or B. Build with `build_judge`."""

    name: str
    engine: Engine
    template: Template
    orders: Orders = "both"
    """``both``, or ``one`` that is drawn by content: half the cost, and position bias stays in."""

    min_mass: float = 0.0
    """When A and B together are less probable than this, the judge abstains."""

    method: str = "pairwise"

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

    async def judge(
        self, prompt: Prompt, comparison: Comparison, principles: Sequence[Principle]
    ) -> tuple[Verdict, ...]:
        """One verdict per principle and order, principle by principle, AB before BA."""
        asks = [
            (principle, order)
            for principle in principles
            for order in self._orders(comparison, principle)
        ]
        requests = [self._request(prompt, comparison, *ask) for ask in asks]
        answers = await ask_all(self.engine, requests)
        return tuple(
            self._verdict(principle, order, request, answer)
            for (principle, order), request, answer in zip(asks, requests, answers, strict=True)
        )

    def _orders(self, comparison: Comparison, principle: Principle) -> tuple[Order, ...]:
        if self.orders == "both":
            return (Order.AB, Order.BA)
        # Drawn over the two ids without their order: a swapped comparison is the same question.
        one, other = sorted((comparison.first.id, comparison.second.id))
        shown_first = one if content_uniform(0, "order", one, other, principle.id) < 0.5 else other
        return (Order.AB,) if shown_first == comparison.first.id else (Order.BA,)

    def _request(
        self, prompt: Prompt, comparison: Comparison, principle: Principle, order: Order
    ) -> Label:
        shown = comparison if order is Order.AB else comparison.swap()
        messages = self.template.render(
            statement=principle.statement,
            question=principle.comparison,
            conversation=prompt.messages,
            response_a=shown.first.text,
            response_b=shown.second.text,
        )
        stub = ""
        if messages[-1]["role"] == "assistant":
            *rest, start = messages
            messages, stub = tuple(rest), start["content"]
        return Label(messages, LABELS, stub=stub, purpose="judge")

    def _verdict(
        self,
        principle: Principle,
        order: Order,
        request: Label,
        answer: Sequence[Reply] | CallFailed,
    ) -> Verdict:
        if isinstance(answer, CallFailed):
            reading = Reading(Choice.ABSTAIN, reason=FAILED_REASON)
            raw, calls = f"{answer.kind}: {answer.message}", []
        else:
            reading = read_labels(answer[0], min_mass=self.min_mass)
            raw, calls = answer[0].text, [request_key(self.engine.identity, request)]
        return Verdict(
            judge=self.name,
            method=self.method,
            principle=principle.id,
            order=order,
            choice=reading.choice,
            logit=reading.logit,
            mass=reading.mass,
            reason=reading.reason,
            raw=raw,
            calls=tuple(calls),
        )


def read_labels(reply: Reply, *, min_mass: float = 0.0) -> Reading:
    """Read the log-probabilities of A and B.

    When a server reports only its most likely tokens and just one label is among them, the other
    has at most the rest, ``1 − p``. If that rest is below ½ the reported label is certainly the
    likelier one, and ``log p/(1 − p)`` is taken: the smallest log-odds that the reply allows. Else
    the reply does not say which is likelier, and the judge abstains.
    """
    if reply.finish == "refusal":
        return Reading(Choice.ABSTAIN, reason=REFUSED_REASON)
    known = {
        label: logprob
        for label, logprob in zip(LABELS, reply.label_logprobs, strict=False)
        if logprob is not None and math.isfinite(logprob)
    }
    if not known:
        return Reading(Choice.ABSTAIN, reason=UNREADABLE_REASON)
    mass = min(1.0, sum(math.exp(logprob) for logprob in known.values()))
    if mass < min_mass:
        return Reading(Choice.ABSTAIN, mass=mass, reason=LOW_MASS_REASON)
    if len(known) == len(LABELS):
        logit = known["A"] - known["B"]
    elif mass <= 0.5:
        return Reading(Choice.ABSTAIN, mass=mass, reason=UNREADABLE_REASON)
    else:
        least = math.log(mass) - math.log(max(1.0 - mass, _SMALLEST_REST))
        logit = least if "A" in known else -least
    return Reading(choose(logit), logit, mass)


def choose(logit: float) -> Choice:
    """The side that log-odds of A are on; exactly 0 is a tie."""
    if logit == 0.0:
        return Choice.TIE
    return Choice.A if logit > 0.0 else Choice.B
