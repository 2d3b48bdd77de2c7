"""Judging: from a comparison to a judgment, a probability and not a bit."""

from rlaif.config.judge import Contrast, Pairwise, Pointwise, Reward, Rubric, Salmon
from rlaif.judging.aggregate import (
    Opinion,
    aggregate_verdicts,
    opinion_sources,
    read_opinions,
)
from rlaif.judging.build import build_configured_judge, build_judge
from rlaif.judging.canary import Canary, Caught, canary_comparisons, count_canaries
from rlaif.judging.judge import FlowJudge, Orders
from rlaif.judging.methods import METHODS
from rlaif.judging.methods.contrast import contrast_logit
from rlaif.judging.methods.flow import Flow, Method, Outcome, Question, label_request
from rlaif.judging.methods.reward import REWARD_PRINCIPLE
from rlaif.judging.methods.rubric import fit_rubric_weights
from rlaif.judging.methods.rules import (
    CONSTRUCTION_JUDGE,
    RULES_JUDGE,
    ConstructionJudge,
    judge_rules,
)
from rlaif.judging.methods.salmon import measure_variances
from rlaif.judging.panel import (
    judge_comparison,
    pool_verdicts,
    settle_judgments,
    soften_disagreement,
)
from rlaif.judging.position import LOGIT_CAP, Split, sigmoid, split_agreeing, split_orders
from rlaif.judging.protocol import Cost, Judge, Needs, check_needs
from rlaif.judging.reading import (
    Expected,
    LabelReading,
    is_refusal,
    parse_choice,
    read_expected,
    read_labels,
    read_word,
)
from rlaif.judging.transforms import (
    Clamp,
    Soften,
    Temperature,
    Transform,
    apply_transforms,
    fit_strengths,
    preference_of,
    refit_judgments,
)
from rlaif.judging.weights import weigh_principles

__all__ = [
    "CONSTRUCTION_JUDGE",
    "LOGIT_CAP",
    "METHODS",
    "REWARD_PRINCIPLE",
    "RULES_JUDGE",
    "Canary",
    "Caught",
    "Clamp",
    "ConstructionJudge",
    "Contrast",
    "Cost",
    "Expected",
    "Flow",
    "FlowJudge",
    "Judge",
    "LabelReading",
    "Method",
    "Needs",
    "Opinion",
    "Orders",
    "Outcome",
    "Pairwise",
    "Pointwise",
    "Question",
    "Reward",
    "Rubric",
    "Salmon",
    "Soften",
    "Split",
    "Temperature",
    "Transform",
    "aggregate_verdicts",
    "apply_transforms",
    "build_configured_judge",
    "build_judge",
    "canary_comparisons",
    "check_needs",
    "contrast_logit",
    "count_canaries",
    "fit_rubric_weights",
    "fit_strengths",
    "is_refusal",
    "judge_comparison",
    "judge_rules",
    "label_request",
    "measure_variances",
    "opinion_sources",
    "parse_choice",
    "pool_verdicts",
    "preference_of",
    "read_expected",
    "read_labels",
    "read_opinions",
    "read_word",
    "refit_judgments",
    "settle_judgments",
    "sigmoid",
    "soften_disagreement",
    "split_agreeing",
    "split_orders",
    "weigh_principles",
]
