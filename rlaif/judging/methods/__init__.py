"""The judge methods: a flow each, and the table of all of them."""

from rlaif.judging.methods.contrast import TEMPLATE as CONTRAST_TEMPLATE, Contrast, contrast
from rlaif.judging.methods.flow import Method, Methods
from rlaif.judging.methods.pairwise import (
    Pairwise,
    pairwise,
    pairwise_template,
    pairwise_transforms,
)
from rlaif.judging.methods.pointwise import (
    TEMPLATE as POINTWISE_TEMPLATE,
    Pointwise,
    pointwise,
    pointwise_factor,
)
from rlaif.judging.methods.reward import SPEAKER, Reward, reward, reward_factor
from rlaif.judging.methods.rubric import TEMPLATE as RUBRIC_TEMPLATE, Rubric, rubric, rubric_factor
from rlaif.judging.methods.salmon import (
    TEMPLATE as SALMON_TEMPLATE,
    Salmon,
    salmon,
    salmon_transforms,
)

METHODS: Methods = {
    "contrast": Method(Contrast, contrast, CONTRAST_TEMPLATE),
    "pairwise": Method(
        Pairwise, pairwise, pairwise_template, orders="averaged", transforms=pairwise_transforms
    ),
    "pointwise": Method(Pointwise, pointwise, POINTWISE_TEMPLATE, factor=pointwise_factor),
    "reward": Method(Reward, reward, factor=reward_factor, principle=SPEAKER),
    "rubric": Method(Rubric, rubric, RUBRIC_TEMPLATE, factor=rubric_factor, additive=True),
    "salmon": Method(
        Salmon, salmon, SALMON_TEMPLATE, orders="agreeing", transforms=salmon_transforms
    ),
}
"""Name of a method to all that is known about it."""
