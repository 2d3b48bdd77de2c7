"""What is shown of a round while it goes on, stage by stage."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

from rlaif.evaluation import OnProgress as OnEvaluated
from rlaif.pipeline.tally import OnProgress as OnGenerated
from rlaif.training.harness.progress import Style

Stage = Literal["generate", "train", "evaluate"]


def _ignore(number: int, stage: Stage) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How the stages of a round are shown; without anything, not at all.

    A display is entered when its stage begins and left when it ends, so one terminal shows all.
    """

    on_stage: Callable[[int, Stage], None] = _ignore
    """Called with the number of the round and the stage that begins."""

    generating: Callable[[], AbstractContextManager[OnGenerated | None]] = nullcontext
    training: Style = "quiet"
    evaluating: Callable[[], AbstractContextManager[OnEvaluated | None]] = nullcontext


UNSEEN = Shown()
"""Nothing is shown."""
