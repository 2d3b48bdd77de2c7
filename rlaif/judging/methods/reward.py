"""A trained reward model as judge: the difference of two scores is the log-odds.

A reward model that was trained on preferences by Bradley–Terry (Bai et al. 2022, arXiv 2212.08073,
and everyone since) gives scores r with P(a better than b) = σ(r_a − r_b), so

    logit = scale · (r_a − r_b)

with a ``scale`` of 1; another one is a temperature for a model that is too sure. It reads no
principle: what it was trained on speaks, so there is one verdict for each comparison, under a name
of its own, which weighs as much as all drawn principles together.

Cost: one score per response, whatever the principles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlaif.constitution import Principle
from rlaif.engines import Capability, Engine, Score
from rlaif.engines.ask import run_together
from rlaif.judging.judge import Asked, ask
from rlaif.judging.protocol import UNREADABLE_REASON, Cost, Needs
from rlaif.judging.reading import choose
from rlaif.judging.transforms import Transform
from rlaif.records import Choice, Comparison, Order, Prompt, Verdict

REWARD_PRINCIPLE = "reward-model"
"""What its verdicts name in place of a principle's id."""


@dataclass(frozen=True, slots=True)
class Reward:
    """How two scores become log-odds."""

    scale: float = 1.0
    """Log-odds per unit of score, > 0."""


@dataclass(frozen=True, slots=True)
class RewardJudge:
    """Scores both responses with a reward model. Build with `build_judge`."""

    name: str
    engine: Engine
    settings: Reward = Reward()
    method: str = "reward"

    @property
    def needs(self) -> Needs:
        """Scores of given replies."""
        return (frozenset({Capability.REWARD}),)

    @property
    def template_fingerprints(self) -> Mapping[str, str]:
        """None: it is shown the conversation and nothing else."""
        return {}

    @property
    def cost(self) -> Cost:
        """One score per response."""
        return Cost("response", scores=1, every_principle=False)

    def transforms(self, principle: str) -> tuple[Transform, ...]:  # noqa: ARG002 - there is none
        """Nothing."""
        return ()

    async def judge(
        self,
        prompt: Prompt,
        comparison: Comparison,
        principles: Sequence[Principle],  # noqa: ARG002 - it reads none
    ) -> tuple[Verdict, ...]:
        """One verdict, whatever the principles; there is no order."""
        asked = await run_together(
            [
                ask(self.engine, Score(prompt.messages, response.text, purpose="judge"))
                for response in (comparison.first, comparison.second)
            ]
        )
        scores = _scores(asked)
        logit = None if scores is None else self.settings.scale * (scores[0] - scores[1])
        problem = next((one.problem for one in asked if one.problem), "")
        reason = next((one.reason for one in asked if one.reason), "")
        return (
            Verdict(
                judge=self.name,
                method=self.method,
                principle=REWARD_PRINCIPLE,
                order=Order.NONE,
                choice=Choice.ABSTAIN if logit is None else choose(logit),
                logit=logit,
                scores=scores,
                reason=reason or (UNREADABLE_REASON if logit is None else ""),
                raw=problem,
                calls=() if problem else tuple(one.call for one in asked),
            ),
        )


def _scores(asked: Sequence[Asked]) -> tuple[float, float] | None:
    read = [one.reply.score if one.reply is not None and not one.reason else None for one in asked]
    known = [score for score in read if score is not None]
    return (known[0], known[1]) if len(known) == 2 else None
