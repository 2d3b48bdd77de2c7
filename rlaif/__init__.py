"""rlaif: constitutions, AI-labelled preferences, trainers and measured self-improvement.

Everything the command line does is a function here. Names are imported when first used, so that
``import rlaif`` loads neither torch nor any engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlaif.constitution import Constitution, Principle, load_constitution
    from rlaif.engines import Engine, Generate, Label, Reply, Sampling, Score, open_engine
    from rlaif.errors import RlaifError
    from rlaif.evaluation import evaluate
    from rlaif.loop import run_loop
    from rlaif.pipeline import agenerate, export, generate
    from rlaif.records import Failure, Judgment, PreferencePair, Prompt, Response, Verdict
    from rlaif.runs import Run, open_run
    from rlaif.serving.train import train_grpo, train_ppo, train_rloo
    from rlaif.serving.trl import build_reward_func
    from rlaif.training import train_dpo, train_reward, train_sft

_ROOMS = {
    "Constitution": "rlaif.constitution",
    "Engine": "rlaif.engines",
    "Failure": "rlaif.records",
    "Generate": "rlaif.engines",
    "Judgment": "rlaif.records",
    "Label": "rlaif.engines",
    "PreferencePair": "rlaif.records",
    "Principle": "rlaif.constitution",
    "Prompt": "rlaif.records",
    "Reply": "rlaif.engines",
    "Response": "rlaif.records",
    "RlaifError": "rlaif.errors",
    "Run": "rlaif.runs",
    "Sampling": "rlaif.engines",
    "Score": "rlaif.engines",
    "Verdict": "rlaif.records",
    "agenerate": "rlaif.pipeline",
    "audit_judge": "rlaif.audit",
    "build_reward_func": "rlaif.serving.trl",
    "evaluate": "rlaif.evaluation",
    "export": "rlaif.pipeline",
    "generate": "rlaif.pipeline",
    "load_constitution": "rlaif.constitution",
    "open_engine": "rlaif.engines",
    "open_run": "rlaif.runs",
    "run_loop": "rlaif.loop",
    "train_dpo": "rlaif.training",
    "train_grpo": "rlaif.serving.train",
    "train_ppo": "rlaif.serving.train",
    "train_reward": "rlaif.training",
    "train_rloo": "rlaif.serving.train",
    "train_sft": "rlaif.training",
}

__all__ = [
    "Constitution",
    "Engine",
    "Failure",
    "Generate",
    "Judgment",
    "Label",
    "PreferencePair",
    "Principle",
    "Prompt",
    "Reply",
    "Response",
    "RlaifError",
    "Run",
    "Sampling",
    "Score",
    "Verdict",
    "agenerate",
    "audit_judge",
    "build_reward_func",
    "evaluate",
    "export",
    "generate",
    "load_constitution",
    "open_engine",
    "open_run",
    "run_loop",
    "train_dpo",
    "train_grpo",
    "train_ppo",
    "train_reward",
    "train_rloo",
    "train_sft",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'rlaif' has no attribute {name!r}")
    value = getattr(import_module(_ROOMS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
