"""From the name of a method to a judge: one table, one entry per method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rlaif.config import nearest
from rlaif.engines import Engine
from rlaif.errors import ConfigError, TemplateError
from rlaif.judging import contrast as contrastive, pairwise
from rlaif.judging.contrast import Contrast, ContrastJudge
from rlaif.judging.pairwise import Orders, PairwiseJudge
from rlaif.judging.protocol import Judge, check_needs
from rlaif.judging.rules import RULES_JUDGE
from rlaif.templates import TemplateSet


@dataclass(frozen=True, slots=True)
class _Settings:
    orders: Orders
    min_mass: float
    contrast: Contrast


_Builder = Callable[[str, Engine, TemplateSet, _Settings], Judge]


def _pairwise(name: str, engine: Engine, templates: TemplateSet, settings: _Settings) -> Judge:
    template = templates.get(pairwise.TEMPLATE)
    return PairwiseJudge(name, engine, template, settings.orders, settings.min_mass)


def _contrast(name: str, engine: Engine, templates: TemplateSet, settings: _Settings) -> Judge:
    template = templates.get(contrastive.TEMPLATE)
    if template.roles != ("system",):
        raise TemplateError(f"{template.path}: must have one section, --- system, and no other")
    return ContrastJudge(name, engine, template, settings.contrast)


METHODS: Mapping[str, _Builder] = {"contrast": _contrast, "pairwise": _pairwise}


def build_judge(
    *,
    name: str,
    method: str,
    engine: Engine,
    templates: TemplateSet,
    orders: Orders = "both",
    min_mass: float = 0.0,
    contrast: Contrast | None = None,
) -> Judge:
    """Build a judge and check that its engine can do what it needs.

    Args:
        name: Unique within a run.
        method: A key of `METHODS`.
        engine: The model that judges.
        templates: Where the words come from.
        orders: Pairwise only: ask in both orders, or in one that is drawn by content.
        min_mass: Pairwise only: abstain when the labels together are less probable than this.
        contrast: Contrast only; None takes the paper's values.

    Raises:
        ConfigError: No such method, or the name is taken by the rules.
        TemplateError: The method's template cannot be used.
        EngineMissing: The engine cannot do what the method needs.
    """
    if method not in METHODS:
        raise ConfigError(
            f"judge {name!r}: no such method as {method!r}{nearest(method, sorted(METHODS))}"
        )
    if name == RULES_JUDGE:
        raise ConfigError(f"no judge can be named {name!r}: rule verdicts carry that name")
    settings = _Settings(orders, min_mass, contrast or Contrast())
    judge = METHODS[method](name, engine, templates, settings)
    check_needs(judge.needs, engine, who=f"judge {name!r} ({method})")
    return judge
