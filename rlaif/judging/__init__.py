"""Judging: from a comparison to a judgment, a probability and not a bit."""

from rlaif.judging.aggregate import Opinion, aggregate_verdicts, read_opinions, weigh_principles
from rlaif.judging.build import METHODS, build_judge
from rlaif.judging.contrast import Contrast, ContrastJudge, contrast_logit
from rlaif.judging.pairwise import Orders, PairwiseJudge, Reading, read_labels
from rlaif.judging.position import LOGIT_CAP, Split, sigmoid, split_orders
from rlaif.judging.protocol import Judge, Needs, check_needs
from rlaif.judging.rules import RULES_JUDGE, judge_rules
from rlaif.judging.transforms import Clamp, Temperature, Transform, apply_transforms

__all__ = [
    "LOGIT_CAP",
    "METHODS",
    "RULES_JUDGE",
    "Clamp",
    "Contrast",
    "ContrastJudge",
    "Judge",
    "Needs",
    "Opinion",
    "Orders",
    "PairwiseJudge",
    "Reading",
    "Split",
    "Temperature",
    "Transform",
    "aggregate_verdicts",
    "apply_transforms",
    "build_judge",
    "check_needs",
    "contrast_logit",
    "judge_rules",
    "read_labels",
    "read_opinions",
    "sigmoid",
    "split_orders",
    "weigh_principles",
]
