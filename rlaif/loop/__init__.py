"""The loop: rounds that promote a checkpoint only when it measurably improved."""

from rlaif.loop.loop import Outcome, Shown, Stage, run_loop
from rlaif.loop.round import Round

__all__ = ["Outcome", "Round", "Shown", "Stage", "run_loop"]
