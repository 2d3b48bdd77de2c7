"""Audit: what a judge is worth, and what principles do to labels."""

from rlaif.audit.audit import aaudit_judge, audit_judge
from rlaif.audit.gold import GoldPair, GoldSet, read_all_gold, read_gold
from rlaif.audit.measuring import Estimate, OnProgress
from rlaif.audit.outcome import Outcome
from rlaif.audit.render import render_audit
from rlaif.audit.result import Audit, JudgeResult, SetResult, measure_set
from rlaif.evaluation.intervals import Figure

__all__ = [
    "Audit",
    "Estimate",
    "Figure",
    "GoldPair",
    "GoldSet",
    "JudgeResult",
    "OnProgress",
    "Outcome",
    "SetResult",
    "aaudit_judge",
    "audit_judge",
    "measure_set",
    "read_all_gold",
    "read_gold",
    "render_audit",
]
