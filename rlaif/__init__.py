"""rlaif: constitutions, AI-labelled preferences, trainers and measured self-improvement.

Everything the command line does is a function here. Names are imported when first used, so that
``import rlaif`` loads neither torch nor any engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlaif.auditing import aaudit, audit, audit_judge
    from rlaif.auditing.principles.annotated_pairs import (
        principles_from_votes,
        read_annotated_pairs,
    )
    from rlaif.auditing.principles.explain import explain_run
    from rlaif.auditing.principles.principles import atry_constitution, try_constitution
    from rlaif.auditing.relabel.relabel import arelabel, areparse, relabel, reparse
    from rlaif.checking import acheck, check
    from rlaif.constitution import (
        Constitution,
        Principle,
        diff_constitutions,
        lint_constitution,
        load_constitution,
    )
    from rlaif.engines import Engine, Generate, Label, Reply, Sampling, Score, open_engine
    from rlaif.errors import RlaifError
    from rlaif.evaluation import aevaluate, evaluate
    from rlaif.loop import run_loop
    from rlaif.pipeline import aestimate, agenerate, estimate, export, generate
    from rlaif.records import Failure, Judgment, PreferencePair, Prompt, Response, Verdict
    from rlaif.runs import Run, open_run
    from rlaif.serving.train import train_dpo, train_grpo, train_ppo, train_rloo, train_sft
    from rlaif.serving.trl import build_reward_func
    from rlaif.sessions.single import ajudge, judge
    from rlaif.training import train_reward

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
    "aaudit": "rlaif.auditing",
    "acheck": "rlaif.checking",
    "aestimate": "rlaif.pipeline",
    "aevaluate": "rlaif.evaluation",
    "agenerate": "rlaif.pipeline",
    "ajudge": "rlaif.sessions.single",
    "arelabel": "rlaif.auditing.relabel.relabel",
    "areparse": "rlaif.auditing.relabel.relabel",
    "atry_constitution": "rlaif.auditing.principles.principles",
    "audit": "rlaif.auditing",
    "audit_judge": "rlaif.auditing",
    "build_reward_func": "rlaif.serving.trl",
    "check": "rlaif.checking",
    "diff_constitutions": "rlaif.constitution",
    "estimate": "rlaif.pipeline",
    "evaluate": "rlaif.evaluation",
    "explain_run": "rlaif.auditing.principles.explain",
    "export": "rlaif.pipeline",
    "generate": "rlaif.pipeline",
    "judge": "rlaif.sessions.single",
    "lint_constitution": "rlaif.constitution",
    "load_constitution": "rlaif.constitution",
    "open_engine": "rlaif.engines",
    "open_run": "rlaif.runs",
    "principles_from_votes": "rlaif.auditing.principles.annotated_pairs",
    "read_annotated_pairs": "rlaif.auditing.principles.annotated_pairs",
    "relabel": "rlaif.auditing.relabel.relabel",
    "reparse": "rlaif.auditing.relabel.relabel",
    "run_loop": "rlaif.loop",
    "train_dpo": "rlaif.serving.train",
    "train_grpo": "rlaif.serving.train",
    "train_ppo": "rlaif.serving.train",
    "train_reward": "rlaif.training",
    "train_rloo": "rlaif.serving.train",
    "train_sft": "rlaif.serving.train",
    "try_constitution": "rlaif.auditing.principles.principles",
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
    "aaudit",
    "acheck",
    "aestimate",
    "aevaluate",
    "agenerate",
    "ajudge",
    "arelabel",
    "areparse",
    "atry_constitution",
    "audit",
    "audit_judge",
    "build_reward_func",
    "check",
    "diff_constitutions",
    "estimate",
    "evaluate",
    "explain_run",
    "export",
    "generate",
    "judge",
    "lint_constitution",
    "load_constitution",
    "open_engine",
    "open_run",
    "principles_from_votes",
    "read_annotated_pairs",
    "relabel",
    "reparse",
    "run_loop",
    "train_dpo",
    "train_grpo",
    "train_ppo",
    "train_reward",
    "train_rloo",
    "train_sft",
    "try_constitution",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'rlaif' has no attribute {name!r}")
    value = getattr(import_module(_ROOMS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
