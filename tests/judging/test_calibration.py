"""Temperature fitted, applied on record, and refused for another judge."""

import math
from pathlib import Path

import orjson
import pytest
from hypothesis import given, strategies as st

from rlaif.config.judge import JudgeConfig
from rlaif.engines import Reply
from rlaif.errors import ConfigError
from rlaif.judging import build_configured_judge, judge_comparison, sigmoid
from rlaif.judging.build import configured_fingerprint
from rlaif.judging.calibration import (
    Calibration,
    fit_temperature,
    negative_log_likelihood,
    read_calibration,
)
from rlaif.templates import TemplateSet
from tests.judging.fake import BRIEF, COMPARISON, PROMPT, FakeEngine, always

SURE = Reply(label_logprobs=(math.log(0.9), math.log(0.1)))


def test_the_temperature_of_one_strength_is_known_in_closed_form() -> None:
    # Always log-odds 3 and right in 8 of 10: the best σ(3/T) is 0.8, so T = 3 / ln 4.
    t = fit_temperature([3.0] * 10, [True] * 8 + [False] * 2)
    assert t == pytest.approx(3.0 / math.log(4.0))


@given(st.floats(0.2, 5.0), st.lists(st.floats(-4, 4).filter(lambda x: abs(x) > 0.1), min_size=5))
def test_the_fitted_temperature_beats_its_neighbours(scale: float, logits: list[float]) -> None:
    firsts = [logit > 0.0 for logit in logits]
    firsts[0] = not firsts[0]
    t = fit_temperature([scale * logit for logit in logits], firsts)
    if t is None:
        return
    scaled = [scale * logit for logit in logits]
    best = negative_log_likelihood(scaled, firsts, t)
    assert best <= negative_log_likelihood(scaled, firsts, t * 1.05) + 1e-9
    assert best <= negative_log_likelihood(scaled, firsts, t / 1.05) + 1e-9


def test_no_temperature_is_fitted_for_a_judge_that_points_nowhere() -> None:
    assert fit_temperature([0.0, 0.0], [True, False]) is None
    assert fit_temperature([1.0, 2.0], [False, False]) is None
    assert fit_temperature([1.0, -2.0], [True, False]) is None  # never wrong: T would be 0


def test_likelihood_of_a_half_is_ln_two() -> None:
    assert negative_log_likelihood([0.0, 0.0], [True, False], 1.0) == pytest.approx(math.log(2))


def fitted(tmp_path: Path, config: JudgeConfig, t: float) -> Path:
    engine, templates = FakeEngine(always(SURE)), TemplateSet.open(None)
    judge = build_configured_judge(
        config, engine=engine, templates=templates, orders="one", min_mass=0.0, principles=[]
    )
    calibration = Calibration(
        t=t,
        judge=judge.name,
        fingerprint=configured_fingerprint(
            config, judge, engine=engine, orders="one", min_mass=0.0
        ),
        method=judge.method,
        question="general@0",
        fitted_on=20,
        reported_on=20,
        ece_before={},
        ece_after={},
        nll_before=1.0,
        nll_after=0.5,
    )
    path = tmp_path / "calibration.json"
    path.write_bytes(orjson.dumps(calibration.to_json()))
    return path


async def test_a_calibration_is_applied_and_put_on_record(tmp_path: Path) -> None:
    plain = JudgeConfig(name="j", engine="scripted", model="echo")
    config = plain.model_copy(update={"calibration": fitted(tmp_path, plain, 2.0)})
    judge = build_configured_judge(
        config,
        engine=FakeEngine(always(SURE)),
        templates=TemplateSet.open(None),
        orders="one",
        min_mass=0.0,
        principles=[],
    )
    judgment = await judge_comparison(
        PROMPT, COMPARISON, judges=[(judge, 1.0)], drawn=[BRIEF], candidates=[BRIEF]
    )
    raw = judgment.raw_preference
    assert raw in (pytest.approx(0.9), pytest.approx(0.1))
    assert raw is not None
    tempered = sigmoid((math.log(raw) - math.log1p(-raw)) / 2.0)
    assert judgment.preference == pytest.approx(tempered)
    assert judgment.transforms == ("j: temperature(2)",)
    assert config.plan() != plain.plan()


def test_a_calibration_of_another_judge_is_refused(tmp_path: Path) -> None:
    path = fitted(tmp_path, JudgeConfig(name="j", engine="scripted", model="echo"), 2.0)
    other = JudgeConfig(name="j", engine="scripted", model="echo", calibration=path)
    with pytest.raises(ConfigError, match="fitted to another judge"):
        build_configured_judge(
            other,
            engine=FakeEngine(always(SURE), identity={"engine": "another"}),
            templates=TemplateSet.open(None),
            orders="one",
            min_mass=0.0,
            principles=[],
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), ("{", "cannot be read"), ("{}", "cannot be read"), ("[]", "cannot")],
)
def test_a_calibration_that_cannot_be_read_is_reported(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "c.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_calibration(path)
