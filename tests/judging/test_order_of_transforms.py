"""The order in which labels are made: pooled, calibrated, clamped; the clamp is last."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

import rlaif
from rlaif.config.judge import JudgeConfig, Pairwise
from rlaif.constitution import Principle
from rlaif.engines import Reply
from rlaif.errors import ConfigError
from rlaif.judging import (
    Clamp,
    Temperature,
    Transform,
    build_configured_judge,
    judge_comparison,
    settle_judgments,
    sigmoid,
)
from rlaif.judging.build import configured_fingerprint, panel_fingerprint
from rlaif.judging.calibration import check_asked, read_calibration
from rlaif.judging.protocol import Cost, Needs
from rlaif.records import Choice, Comparison, Judgment, Order, Prompt, Verdict
from rlaif.templates import TemplateSet
from tests.judging.fake import BRIEF, COMPARISON, KIND, PROMPT, FakeEngine, always


@dataclass
class Says:
    """A judge with the same log-odds about every principle, or one each."""

    name: str
    logits: dict[str, float]
    done: tuple[Transform, ...] = ()
    calibration: tuple[Transform, ...] = ()
    method: str = "test"
    needs: Needs = ()
    template_fingerprints: dict[str, str] = field(default_factory=dict)
    cost: Cost = Cost("comparison", labels=1)  # noqa: RUF009 - frozen

    def transforms(self, principle: str) -> tuple[Transform, ...]:  # noqa: ARG002
        return self.done

    async def judge(
        self,
        prompt: Prompt,  # noqa: ARG002
        comparison: Comparison,  # noqa: ARG002
        principles: Sequence[Principle],
    ) -> tuple[Verdict, ...]:
        return tuple(
            Verdict(self.name, "test", p.id, Order.NONE, Choice.A, logit=self.logits[p.id])
            for p in principles
        )


def sure(name: str, logit: float, **more: Any) -> Says:
    return Says(name, {"kind": logit, "brief": logit}, **more)


async def judged(*judges: Says, calibration: tuple[Transform, ...] = ()) -> Judgment:
    return await judge_comparison(
        PROMPT,
        COMPARISON,
        judges=[(judge, 1.0) for judge in judges],
        drawn=[KIND, BRIEF],
        candidates=[KIND, BRIEF],
        calibration=calibration,
    )


def tempered(p: float, t: float) -> float:
    return Temperature(t).apply(p)


async def test_a_calibration_is_applied_to_the_pool_and_not_to_opinions() -> None:
    judgment = await judged(
        Says("one", {"kind": 2.0, "brief": -1.0}, calibration=(Temperature(0.5),))
    )
    pool = (sigmoid(2.0) + sigmoid(-1.0)) / 2
    assert judgment.raw_preference == pytest.approx(pool)
    assert judgment.preference == pytest.approx(tempered(pool, 0.5))
    assert judgment.transforms == ("one: temperature(0.5)",)


async def test_every_judge_of_a_panel_is_calibrated_and_then_the_panel() -> None:
    one, two = sure("one", 2.0, calibration=(Temperature(2.0),)), sure("two", -1.0)
    judgment = await judged(one, two, calibration=(Temperature(0.5),))
    own = (sigmoid(1.0) + sigmoid(-1.0)) / 2
    assert judgment.preference == pytest.approx(tempered(own, 0.5))
    assert judgment.transforms == ("one: temperature(2)", "panel: temperature(0.5)")
    assert judgment.disagreement == pytest.approx(sigmoid(1.0) - sigmoid(-1.0))


async def test_the_clamp_comes_after_the_calibrations_of_judge_and_panel() -> None:
    clamp = (Clamp(0.4),)
    alone = await judged(sure("one", 1.0, done=clamp, calibration=(Temperature(0.2),)))
    assert alone.preference == pytest.approx(0.6)
    assert alone.transforms == ("one: temperature(0.2), clamp(0.4..0.6)",)
    both = await judged(
        sure("one", 1.0, done=clamp),
        sure("two", 1.0, done=(Clamp(0.3),)),
        calibration=(Temperature(0.2),),
    )
    assert both.preference == pytest.approx(0.7)
    assert both.transforms[-2:] == ("panel: temperature(0.2)", "clamp(0.3..0.7)")
    mixed = await judged(
        sure("one", 1.0, done=clamp), sure("two", 3.0), calibration=(Temperature(0.2),)
    )
    assert mixed.preference is not None
    assert mixed.preference > 0.9  # the other judge has no clamp


async def test_the_clamp_comes_after_bradley_terry() -> None:
    judge = sure("one", 3.0, done=(Clamp(0.4),))
    judgment = await judged(judge)
    (refit,) = settle_judgments([judgment], [(judge, 1.0)], refit=True)
    assert refit.transforms == (
        "one: clamp(0.4..0.6)",
        "bradley-terry(prior=0.001)",
        "clamp(0.4..0.6)",
    )
    ids = ("x", "y", "z")
    ring = [
        Judgment(a, b, 0.6, 0.95, judgment.transforms, 1.0, None, 0, judgment.verdicts)
        for a, b in ((ids[0], ids[1]), (ids[1], ids[2]), (ids[0], ids[2]))
    ]
    settled = settle_judgments(ring, [(judge, 1.0)], refit=True)
    assert max(one.preference or 0.0 for one in settled) == 0.6


def written(path: Path, **fields: Any) -> Path:
    known = {
        "t": 2.0,
        "judge": "j",
        "fingerprint": "f",
        "method": "pairwise",
        "question": "q@0",
        "fitted_on": 40,
        "reported_on": 40,
        "ece_before": {},
        "ece_after": {},
        "nll_before": 0.7,
        "nll_after": 0.6,
    }
    path.write_bytes(orjson.dumps({**known, **fields}))
    return path


def test_a_calibration_of_an_earlier_version_stays_one_of_opinions(tmp_path: Path) -> None:
    plain = JudgeConfig(name="j", engine="scripted", model="echo")
    about = {"engine": FakeEngine(always(Reply())), "orders": "one", "min_mass": 0.0}
    build = {**about, "templates": TemplateSet.open(None), "principles": []}
    judge = build_configured_judge(plain, **build)  # type: ignore[arg-type]
    fingerprint = configured_fingerprint(plain, judge, **about)  # type: ignore[arg-type]
    for format, opinions in ((1, True), (2, False)):
        path = written(tmp_path / "c.json", fingerprint=fingerprint, format=format)
        config = plain.model_copy(update={"calibration": path})
        built = build_configured_judge(config, **build)  # type: ignore[arg-type]
        assert built.transforms("kind") == ((Temperature(2.0),) if opinions else ())
        assert built.calibration == (() if opinions else (Temperature(2.0),))


def test_one_of_opinions_in_words_would_change_nothing_and_is_refused(tmp_path: Path) -> None:
    plain = JudgeConfig(name="j", engine="scripted", model="echo", pairwise=Pairwise(words=True))
    about = {"engine": FakeEngine(always(Reply())), "orders": "one", "min_mass": 0.0}
    build = {**about, "templates": TemplateSet.open(None), "principles": []}
    judge = build_configured_judge(plain, **build)  # type: ignore[arg-type]
    fingerprint = configured_fingerprint(plain, judge, **about)  # type: ignore[arg-type]
    path = written(tmp_path / "c.json", fingerprint=fingerprint, format=1)
    config = plain.model_copy(update={"calibration": path})
    with pytest.raises(ConfigError, match="it would change nothing"):
        build_configured_judge(config, **build)  # type: ignore[arg-type]


def test_labels_of_another_number_of_principles_are_not_calibrated(tmp_path: Path) -> None:
    fitted = read_calibration(written(tmp_path / "c.json", asked=16, format=2))
    check_asked(fitted, 16, who="the judge 'j'")
    with pytest.raises(ConfigError, match="labels of 16 principle"):
        check_asked(fitted, 1, who="the judge 'j'")
    earlier = read_calibration(written(tmp_path / "old.json"))
    assert earlier.of_opinions
    check_asked(earlier, 1, who="the judge 'j'")


@pytest.mark.parametrize("fields", [{"t": 0.0}, {"soften": 0.0}, {"soften": 1.5}, {"format": 3}])
def test_a_calibration_that_no_audit_writes_is_refused(
    tmp_path: Path, fields: dict[str, float]
) -> None:
    with pytest.raises(ConfigError, match="calibration"):
        read_calibration(written(tmp_path / "c.json", **fields))


def test_weights_and_calibrations_make_another_panel(tmp_path: Path) -> None:
    one = JudgeConfig(name="one", engine="scripted", model="echo")
    heavy = one.model_copy(update={"weight": 2.0})
    tuned = one.model_copy(update={"calibration": written(tmp_path / "c.json")})
    assert len({panel_fingerprint([("f", some)]) for some in (one, heavy, tuned)}) == 3


async def test_a_calibration_of_more_principles_is_refused_for_one_of_them(tmp_path: Path) -> None:
    path = written(tmp_path / "c.json", asked=16, format=2)
    judge = {"name": "j", "engine": "scripted", "model": "judge-random", "calibration": str(path)}
    with pytest.raises(ConfigError, match=r"labels of 16 principle\(s\), and labels here are of 1"):
        await rlaif.ajudge("What?", "a", "b", "Be kind.", judge=judge)
