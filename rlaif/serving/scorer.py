"""The scorer of a file with everything behind it, opened and closed together."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rlaif.config.judged import JudgedConfig
from rlaif.config.ppo import LengthPenaltyConfig, RewardPartConfig
from rlaif.serving.judged import JudgedScorer, open_judged
from rlaif.training.build_scorer import build_scorer
from rlaif.training.scorers import Scorer, finish


@dataclass(frozen=True, slots=True)
class OpenedScorer:
    """A scorer, and the panels of judges among its parts."""

    scorer: Scorer
    panels: list[JudgedScorer] = field(default_factory=list)


@contextmanager
def opened_scorer(
    reward: RewardPartConfig | Sequence[RewardPartConfig],
    length_penalty: LengthPenaltyConfig | None = None,
    *,
    rank: int = 0,
) -> Iterator[OpenedScorer]:
    """Open rules, reward models and judges; afterwards every ledger is written and closed.

    Raises:
        InputError: A part cannot be used.
        EngineMissing: A model, extra, key or capability is missing.
    """
    panels: list[JudgedScorer] = []

    def open_panel(config: JudgedConfig) -> Scorer:
        panels.append(open_judged(config, rank=rank))
        return panels[-1]

    try:
        yield OpenedScorer(build_scorer(reward, length_penalty, judged=open_panel), panels)
    finally:
        for panel in panels:
            finish(panel.aclose())
