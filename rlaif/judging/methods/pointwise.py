"""Pointwise judging: each response gets a score of its own, and the difference is the preference.

Direct RLAIF (Lee et al. 2023, arXiv 2309.00267): the judge gives a score, and its
expected value over the label probabilities is rescaled,

    s = (Σ i·P(i) − 5) / 4  in [−1, 1],      logit = scale · (s_a − s_b).

Deviations: 1 to 9 in place of 1 to 10, because ``10`` is two tokens in many vocabularies; and the
paper uses s as a reward, where a preference needs a scale: log-odds per unit of s. The default of 4
makes one point of nine worth log-odds of 1.

Cost: one next-token call per response and principle, the same call in every comparison.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlaif.constitution import Principle
from rlaif.engines import Capability, Engine
from rlaif.engines.ask import run_together
from rlaif.judging.judge import Asked, ask, label_request
from rlaif.judging.protocol import Cost, Needs
from rlaif.judging.reading import Expected, choose, read_expected
from rlaif.judging.transforms import Transform
from rlaif.records import Choice, Comparison, Order, Prompt, Response, Verdict
from rlaif.records.tool_use import spoken
from rlaif.templates import Template

TEMPLATE = "judge/pointwise"
LABELS = tuple("123456789")
_MIDDLE = (1 + len(LABELS)) / 2
_REACH = (len(LABELS) - 1) / 2


@dataclass(frozen=True, slots=True)
class Pointwise:
    """How two scores become log-odds."""

    scale: float = 4.0
    """Log-odds per unit of score, > 0. Scores are in [−1, 1]."""


@dataclass(frozen=True, slots=True)
class PointwiseJudge:
    """Asks for a score from 1 to 9. Build with `build_judge`."""

    name: str
    engine: Engine
    template: Template
    min_mass: float = 0.0
    """When the nine labels together are less probable than this, the judge abstains."""

    settings: Pointwise = Pointwise()
    method: str = "pointwise"

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
        """One label per response."""
        return Cost("response", labels=1)

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

    async def _verdict(
        self, prompt: Prompt, comparison: Comparison, principle: Principle
    ) -> Verdict:
        asked = await run_together(
            [
                self._ask(prompt, response, principle)
                for response in (comparison.first, comparison.second)
            ]
        )
        read = [self._read(one) for one in asked]
        scores = rescale(read[0].value, read[1].value)
        logit = None if scores is None else self.settings.scale * (scores[0] - scores[1])
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
            reason=next((one.reason for one in read if one.reason), ""),
            raw=problem,
            calls=() if problem else tuple(one.call for one in asked),
        )

    async def _ask(self, prompt: Prompt, response: Response, principle: Principle) -> Asked:
        messages = self.template.render(
            statement=principle.statement,
            conversation=spoken(prompt.messages),
            response=response.text,
        )
        return await ask(self.engine, label_request(messages, LABELS))

    def _read(self, asked: Asked) -> Expected:
        if asked.reason or asked.reply is None:
            return Expected(reason=asked.reason)
        return read_expected(asked.reply, labels=len(LABELS), min_mass=self.min_mass)


def rescale(first: float | None, second: float | None) -> tuple[float, float] | None:
    """Carry two expected scores from [1, 9] to [−1, 1]; None when either is unknown."""
    if first is None or second is None:
        return None
    return (first - _MIDDLE) / _REACH, (second - _MIDDLE) / _REACH
