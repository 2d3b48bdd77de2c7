"""The loop: rounds that promote a checkpoint only when it measurably improved."""

from rlaif.loop.loop import Outcome, run_loop
from rlaif.loop.round import Round
from rlaif.loop.shown import Shown, Stage

__all__ = ["Outcome", "Round", "Shown", "Stage", "run_loop"]
