"""From the name of a method to a judge, and what makes two judges the same."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from rlaif.config import nearest
from rlaif.config.judge import MIN_MASS, JudgeConfig
from rlaif.engines import Engine
from rlaif.errors import ConfigError
from rlaif.judging.calibration import check_calibration, read_calibration
from rlaif.judging.judge import FlowJudge, Orders
from rlaif.judging.methods import METHODS
from rlaif.judging.methods.rules import CONSTRUCTION_JUDGE, RULES_JUDGE
from rlaif.judging.protocol import Judge, check_needs
from rlaif.records import content_id
from rlaif.templates import TemplateSet


def judge_fingerprint(
    *,
    engine: Mapping[str, Any],
    plan: Mapping[str, Any],
    templates: Mapping[str, str],
    orders: str,
    min_mass: float,
) -> str:
    """Return a hash over everything that decides what a judge says about a comparison.

    Its name and its weight in a panel do not enter it, nor does a calibration, which changes how
    sure a judge is and never which response it prefers.

    Args:
        engine: The identity of its engine: model, revision, address.
        plan: Its method and the method's settings.
        templates: Name to fingerprint of what it shows.
        orders: In which orders it is asked; for a method without order, anything constant.
        min_mass: Label mass below which it abstains.
    """
    method = {key: value for key, value in plan.items() if key not in ("weight", "calibration")}
    return content_id("judge", engine, method, dict(sorted(templates.items())), orders, min_mass)


def configured_fingerprint(
    config: JudgeConfig, judge: Judge, *, engine: Engine, orders: str, min_mass: float
) -> str:
    """Return the fingerprint of a judge that was built from a file."""
    return judge_fingerprint(
        engine=engine.identity,
        plan=config.plan(),
        templates=judge.template_fingerprints,
        orders="none" if METHODS[config.method].orders == "none" else orders,
        min_mass=min_mass if judge.cost.labels else 0.0,
    )


def panel_fingerprint(judges: Iterable[tuple[str, JudgeConfig]]) -> str:
    """Return a hash over what decides the labels of a panel: its judges, weights, calibrations.

    Args:
        judges: Each judge's fingerprint, with its settings, in the order of the file.
    """
    each = []
    for fingerprint, config in judges:
        own = config.plan().get("calibration")
        each.append([fingerprint, config.weight, *([] if own is None else [own])])
    return content_id("panel", each)


def build_judge(
    *,
    name: str,
    method: str,
    engine: Engine,
    templates: TemplateSet,
    orders: Orders = "both",
    min_mass: float = MIN_MASS,
    settings: Any = None,
) -> FlowJudge:
    """Build a judge and check that its engine can do what it needs.

    Args:
        name: Unique within a run.
        method: A key of `METHODS`.
        engine: The model that judges.
        templates: Where the words come from.
        orders: For methods that show both responses: in both orders, or in one drawn by content.
        min_mass: For methods that read labels: abstain when they are less probable than this.
        settings: The method's own, of the class that its row names; None takes its defaults.

    Raises:
        ConfigError: Unknown method, settings of another one, or a reserved name.
        TemplateError: The method's template cannot be used.
        EngineMissing: The engine cannot do what the method needs.
    """
    if method not in METHODS:
        raise ConfigError(
            f"judge {name!r}: unknown method {method!r}{nearest(method, sorted(METHODS))}"
        )
    if name in (RULES_JUDGE, CONSTRUCTION_JUDGE):
        raise ConfigError(
            f"judge {name!r}: this name is reserved for verdicts that no model gives",
            hint="choose another name",
        )
    row = METHODS[method]
    chosen = row.settings() if settings is None else settings
    if not isinstance(chosen, row.settings):
        raise ConfigError(f"judge {name!r}: {method} takes no {type(chosen).__name__} settings")
    if row.orders == "agreeing" and orders != "both":
        raise ConfigError(
            f"judge {name!r}: {method} needs both orders, and orders is {orders}",
            hint="set orders: both, or use the method pairwise",
        )
    shown = row.template if isinstance(row.template, str) else row.template(chosen)
    judge = FlowJudge(
        name=name,
        method=method,
        row=row,
        engine=engine,
        template=templates.get(shown) if shown else None,
        settings=chosen,
        orders=orders,
        min_mass=min_mass,
    )
    check_needs(judge.needs, engine, who=f"judge {name!r} ({method})")
    return judge


def build_configured_judge(
    config: JudgeConfig,
    *,
    engine: Engine,
    templates: TemplateSet,
    orders: Orders,
    min_mass: float,
    principles: Collection[str],
) -> FlowJudge:
    """Build the judge that a file describes.

    Args:
        config: One entry of ``judges:``.
        engine: The model it names.
        templates: Where the words come from.
        orders: As for `build_judge`.
        min_mass: As for `build_judge`.
        principles: Ids of the constitution's judged principles; settings may name no others.

    Raises:
        InputError: As for `build_judge`, or settings name a principle that is not judged.
        EngineMissing: The engine cannot do what the method needs.
    """
    for setting, value in config.method_settings:
        for principle in value if isinstance(value, Mapping) else ():
            if principle not in principles:
                raise ConfigError(
                    f"judge {config.name!r}: {config.method}.{setting}: no judged principle has "
                    f"the id {principle!r}{nearest(principle, sorted(principles))}"
                )
    judge = build_judge(
        name=config.name,
        method=config.method,
        engine=engine,
        templates=templates,
        orders=orders,
        min_mass=min_mass,
        settings=config.method_settings,
    )
    if config.calibration is None:
        return judge
    fitted = read_calibration(config.calibration)
    fingerprint = configured_fingerprint(
        config, judge, engine=engine, orders=orders, min_mass=min_mass
    )
    words = config.method == "pairwise" and config.pairwise.words
    check_calibration(fitted, judge=judge.name, fingerprint=fingerprint, words=words)
    if fitted.of_opinions:
        return replace(judge, temperature=fitted.t)
    return replace(judge, calibration=fitted.transforms)
