"""Auditing: how good judges are, and what principles do to labels."""

from rlaif.auditing.audit import aaudit, audit, audit_judge
from rlaif.auditing.gold import GoldPair, GoldSet, Outcome, read_all_gold, read_gold
from rlaif.auditing.measuring import Estimate
from rlaif.auditing.render import render_audit
from rlaif.auditing.result import Audit, JudgeResult, SetResult, measure_set
from rlaif.evaluation.intervals import Figure
from rlaif.sessions.shown import OnProgress

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
    "aaudit",
    "audit",
    "audit_judge",
    "measure_set",
    "read_all_gold",
    "read_gold",
    "render_audit",
]
