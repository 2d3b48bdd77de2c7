"""The judge methods: a flow each, and the table of all of them."""

from rlaif.config.judge import Contrast, Pairwise, Pointwise, Reward, Rubric, Salmon
from rlaif.judging.methods import contrast, pairwise, pointwise, reward, rubric, salmon
from rlaif.judging.methods.flow import Method, Methods

METHODS: Methods = {
    "contrast": Method(Contrast, contrast.flow, contrast.TEMPLATE),
    "pairwise": Method(
        Pairwise,
        pairwise.flow,
        pairwise.template,
        orders="averaged",
        transforms=pairwise.transforms,
    ),
    "pointwise": Method(Pointwise, pointwise.flow, pointwise.TEMPLATE, factor=pointwise.factor),
    "reward": Method(Reward, reward.flow, factor=reward.factor, principle=reward.SPEAKER),
    "rubric": Method(
        Rubric,
        rubric.flow,
        rubric.TEMPLATE,
        factor=rubric.factor,
        additive=True,
        summed=rubric.summed,
    ),
    "salmon": Method(
        Salmon,
        salmon.flow,
        salmon.TEMPLATE,
        orders="agreeing",
        transforms=salmon.transforms,
    ),
}
"""Name of a method to all that is known about it."""
