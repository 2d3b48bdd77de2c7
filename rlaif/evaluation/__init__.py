"""Evaluation: how good a policy is, measured beside its baseline, with intervals."""

from rlaif.evaluation.compare import Evaluation, evaluate_models
from rlaif.evaluation.corrected import Confusion, correct_rate
from rlaif.evaluation.differences import Difference
from rlaif.evaluation.evaluate import aevaluate, evaluate
from rlaif.evaluation.judged import Panel
from rlaif.evaluation.measure import Group, Measure, Measured
from rlaif.evaluation.plan import Plan
from rlaif.evaluation.refusals import Refusal, detect_refusal
from rlaif.evaluation.render import render_markdown, render_table, write_results
from rlaif.evaluation.scorecard import Estimate, Scorecard, read_scorecard, write_scorecard
from rlaif.sessions.shown import OnProgress

__all__ = [
    "Confusion",
    "Difference",
    "Estimate",
    "Evaluation",
    "Group",
    "Measure",
    "Measured",
    "OnProgress",
    "Panel",
    "Plan",
    "Refusal",
    "Scorecard",
    "aevaluate",
    "correct_rate",
    "detect_refusal",
    "evaluate",
    "evaluate_models",
    "read_scorecard",
    "render_markdown",
    "render_table",
    "write_results",
    "write_scorecard",
]
