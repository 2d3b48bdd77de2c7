"""Proximal policy optimisation for text, written to be read beside the papers.

From the inside out: `losses`, `advantages` (pure), `sampling`, `actor_critic`, `experience`,
`update`, `trainer` (the algorithm), `build`, `train` (what it hands to the harness).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlaif.training.ppo.train import train_ppo

__all__ = ["train_ppo"]


def __getattr__(name: str) -> Any:
    """Load torch and transformers only when something is used."""
    if name in __all__:
        return getattr(importlib.import_module("rlaif.training.ppo.train"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
