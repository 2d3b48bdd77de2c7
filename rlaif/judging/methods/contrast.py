"""Contrastive likelihood (DLMA): judging by how much a wish changes a response's likelihood.

Liu et al. 2024 (arXiv 2402.11907). With p⁺ a system message that keeps to the
principle and p⁻ one that does the opposite,

    R = [log π(a₁|p⁺) − log π(a₁|p⁻)] − [log π(a₂|p⁺) − log π(a₂|p⁻)]

from summed log-probabilities. No instruction has to be followed and no order is shown, so small
models can do it. Deviations: the paper generates a₁ under p⁺ and a₂ under p⁻ and puts
``w·clamp(R)`` into its loss as a reward margin; here any two responses are judged, and
``scale · clamp(R, ±clamp)`` (the paper's 0.2 and 40) is taken as log-odds that the first is better.

Cost: two scored prefills per response and principle; those of one response are the same calls in
every comparison it takes part in.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlaif.constitution import Principle
from rlaif.engines import Capability, Engine, Reply, Score, request_key
from rlaif.engines.ask import ask_all
from rlaif.errors import CallFailed
from rlaif.judging.position import cut
from rlaif.judging.protocol import FAILED_REASON, REFUSED_REASON, UNREADABLE_REASON, Cost, Needs
from rlaif.judging.reading import choose
from rlaif.judging.transforms import Transform
from rlaif.records import Choice, Comparison, Order, Prompt, Verdict
from rlaif.templates import Template

TEMPLATE = "judge/contrast"


@dataclass(frozen=True, slots=True)
class Contrast:
    """How summed log-probability differences become log-odds."""

    scale: float = 0.2
    clamp: float = 40.0
    """Nats, or nats per token with ``per_token``."""

    per_token: bool = False
    """Divide each log-probability by its tokens, so that length alone cannot decide. R is then
    small: a larger ``scale`` is needed."""


@dataclass(frozen=True, slots=True)
class ContrastJudge:
    """Scores both responses under the principle and its opposite. Build with `build_judge`."""

    name: str
    engine: Engine
    template: Template
    settings: Contrast = Contrast()
    method: str = "contrast"

    @property
    def needs(self) -> Needs:
        """Log-probabilities of given text."""
        return (frozenset({Capability.SCORE}),)

    @property
    def template_fingerprints(self) -> Mapping[str, str]:
        """The one template it shows."""
        return {self.template.name: self.template.fingerprint}

    @property
    def cost(self) -> Cost:
        """Each response under the principle and under its opposite."""
        return Cost("response", scores=2)

    def transforms(self, principle: str) -> tuple[Transform, ...]:  # noqa: ARG002 - there is none
        """Nothing."""
        return ()

    async def judge(
        self, prompt: Prompt, comparison: Comparison, principles: Sequence[Principle]
    ) -> tuple[Verdict, ...]:
        """One verdict per principle; there is no order."""
        requests = [
            request
            for principle in principles
            for request in self._requests(prompt, comparison, principle)
        ]
        answers = await ask_all(self.engine, requests)
        return tuple(
            self._verdict(principle, requests[at : at + 4], answers[at : at + 4])
            for at, principle in zip(range(0, len(requests), 4), principles, strict=True)
        )

    def _requests(
        self, prompt: Prompt, comparison: Comparison, principle: Principle
    ) -> tuple[Score, ...]:
        """First for, first against, second for, second against."""
        personas = [
            self.template.render(
                statement=principle.statement, opposite=principle.opposite, against=against
            )[0]["content"]
            for against in (False, True)
        ]
        return tuple(
            Score(prompt.with_system(persona), response.text, purpose="judge")
            for response in (comparison.first, comparison.second)
            for persona in personas
        )

    def _verdict(
        self,
        principle: Principle,
        requests: Sequence[Score],
        answers: Sequence[Sequence[Reply] | CallFailed],
    ) -> Verdict:
        choice, logit, scores, raw = Choice.ABSTAIN, None, None, ""
        replies = [answer[0] for answer in answers if not isinstance(answer, CallFailed)]
        failed = [answer for answer in answers if isinstance(answer, CallFailed)]
        if failed:
            reason, raw = FAILED_REASON, f"{failed[0].kind}: {failed[0].message}"
        else:
            reason, scores = self._scores(replies)
        if scores is not None:
            logit = contrast_logit(*scores, scale=self.settings.scale, clamp=self.settings.clamp)
            choice = choose(logit)
        return Verdict(
            judge=self.name,
            method=self.method,
            principle=principle.id,
            order=Order.NONE,
            choice=choice,
            logit=logit,
            scores=scores,
            reason=reason,
            raw=raw,
            calls=()
            if failed
            else tuple(request_key(self.engine.identity, request) for request in requests),
        )

    def _scores(self, replies: Sequence[Reply]) -> tuple[str, tuple[float, float] | None]:
        """Why there are none, or each response's log-likelihood ratio, for over against."""
        if any(reply.finish == "refusal" for reply in replies):
            return REFUSED_REASON, None
        read = [self._logprob(reply) for reply in replies]
        known = [value for value in read if value is not None]
        if len(known) != 4:
            return UNREADABLE_REASON, None
        return "", (known[0] - known[1], known[2] - known[3])

    def _logprob(self, reply: Reply) -> float | None:
        if reply.logprob is None or not math.isfinite(reply.logprob):
            return None
        if not self.settings.per_token:
            return reply.logprob
        return reply.logprob / reply.scored_tokens if reply.scored_tokens else None


def contrast_logit(first: float, second: float, *, scale: float, clamp: float) -> float:
    """Return log-odds that the first response is better.

    Args:
        first: log π(a₁|p⁺) − log π(a₁|p⁻), in nats.
        second: The same of the second response.
        scale: Log-odds per nat of difference, > 0.
        clamp: The difference is cut to ± this before scaling.
    """
    return scale * cut(first - second, clamp)
