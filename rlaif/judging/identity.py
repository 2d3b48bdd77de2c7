"""Which judge it is: one fingerprint for audits, calibrations and gates to agree on."""

from collections.abc import Mapping
from typing import Any

from rlaif.config.judge import JudgeConfig
from rlaif.engines import Engine
from rlaif.judging.protocol import Judge
from rlaif.records import content_id


def judge_fingerprint(
    *,
    engine: Mapping[str, Any],
    plan: Mapping[str, Any],
    templates: Mapping[str, str],
    orders: str,
    min_mass: float,
) -> str:
    """Return a hash over everything that decides what a judge says about a comparison.

    Its name and its weight in a panel are no part of it, nor is a calibration, which changes how
    sure a judge is and never which response it prefers.

    Args:
        engine: The identity of its engine: model, revision, address.
        plan: Its method and the method's settings.
        templates: Name to fingerprint of what it shows.
        orders: In which orders it is asked; for a method without order, anything constant.
        min_mass: Label mass below which it abstains.
    """
    said = {key: value for key, value in plan.items() if key not in ("weight", "calibration")}
    return content_id("judge", engine, said, dict(sorted(templates.items())), orders, min_mass)


def configured_fingerprint(
    config: JudgeConfig, judge: Judge, *, engine: Engine, orders: str, min_mass: float
) -> str:
    """Return the fingerprint of a judge that was built from a file."""
    return judge_fingerprint(
        engine=engine.identity,
        plan=config.plan(),
        templates=judge.template_fingerprints,
        orders=orders if config.shows_both else "none",
        min_mass=min_mass if config.reads_labels else 0.0,
    )
