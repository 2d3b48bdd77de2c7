from pathlib import Path

import pytest

from rlaif.engines import Capability, Reply
from rlaif.errors import ConfigError, EngineMissing, TemplateError
from rlaif.judging import METHODS, build_judge
from rlaif.templates import TemplateSet
from tests.judging.fake import FakeEngine, always


def engine(*capabilities: Capability) -> FakeEngine:
    return FakeEngine(always(Reply()), frozenset(capabilities))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_builds_and_says_what_it_shows_and_needs(method: str) -> None:
    able = engine(*Capability)
    templates = TemplateSet.open()
    judge = build_judge(name="main", method=method, engine=able, templates=templates)
    assert (judge.name, judge.method) == ("main", method)
    assert judge.needs
    shown = judge.template_fingerprints
    assert shown == {name: templates.fingerprints()[name] for name in shown}
    assert bool(shown) is (method != "reward")
    assert judge.cost.calls(comparisons=1, responses=2, principles=1) >= 2
    assert judge.transforms("kind") == ()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_engine_that_cannot_do_it_is_refused_before_anything_starts(method: str) -> None:
    with pytest.raises(EngineMissing, match=rf"judge 'main' \({method}\) needs .*generate"):
        build_judge(
            name="main",
            method=method,
            engine=engine(Capability.GENERATE),
            templates=TemplateSet.open(),
        )


@pytest.mark.parametrize("enough", [Capability.TOP_LOGPROBS, Capability.LABEL_LOGPROBS])
def test_pairwise_works_with_either_kind_of_label_log_probabilities(enough: Capability) -> None:
    build_judge(name="main", method="pairwise", engine=engine(enough), templates=TemplateSet.open())


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'pairwise'"):
        build_judge(name="main", method="pairwize", engine=engine(), templates=TemplateSet.open())


def test_the_name_of_the_rules_is_reserved() -> None:
    with pytest.raises(ConfigError, match="rules"):
        build_judge(
            name="rules",
            method="contrast",
            engine=engine(Capability.SCORE),
            templates=TemplateSet.open(),
        )


def test_a_persona_of_several_messages_is_refused(tmp_path: Path) -> None:
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "contrast.j2").write_text(
        "{# variables: statement #}\n--- system\n{{ statement }}\n--- user\nhi\n", encoding="utf-8"
    )
    with pytest.raises(TemplateError, match="must have one section"):
        build_judge(
            name="main",
            method="contrast",
            engine=engine(Capability.SCORE),
            templates=TemplateSet.open(tmp_path),
        )
