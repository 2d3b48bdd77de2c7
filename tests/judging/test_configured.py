from typing import Any

import pytest

from rlaif.config import RunConfig, load_config
from rlaif.config.judge import JudgeConfig
from rlaif.config.reward import ABSOLUTE
from rlaif.engines import Capability, Reply
from rlaif.errors import ConfigError
from rlaif.judging import METHODS, Clamp, Judge, Temperature, build_configured_judge
from rlaif.templates import TemplateSet
from tests.judging.fake import FakeEngine, always


def config(**values: Any) -> JudgeConfig:
    return JudgeConfig(engine="scripted", model="echo", **values)


def built(**values: Any) -> Judge:
    return build_configured_judge(
        config(**values),
        engine=FakeEngine(always(Reply()), frozenset(Capability)),
        templates=TemplateSet.open(),
        orders="both",
        min_mass=0.0,
        principles=("kind", "brief"),
    )


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_can_be_named_in_a_file(method: str) -> None:
    judge = built(method=method)
    assert judge.method == method
    plan = config(method=method).plan()
    assert set(plan) == {"method", "weight", method}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_files_are_checked_for_is_what_the_table_and_the_flows_say(method: str) -> None:
    row, said = METHODS[method], config(method=method)
    assert said.shows_both is (row.orders != "none")
    assert said.reads_labels is bool(built(method=method).cost.labels)
    assert (method in ABSOLUTE) is (row.factor is not None)
    assert type(said.method_settings) is row.settings


def test_a_judge_in_words_has_no_label_mass() -> None:
    words = {"words": True, "chain_of_thought": True}
    assert not config(pairwise=words).reads_labels
    assert not built(pairwise=words).cost.labels


def test_settings_reach_the_judge() -> None:
    reasoned = built(pairwise={"chain_of_thought": True})
    assert reasoned.transforms("kind") == (Clamp(0.4),)
    looser = built(pairwise={"chain_of_thought": True, "clamp": 0.2})
    assert looser.transforms("kind") == (Clamp(0.2),)
    assert set(reasoned.template_fingerprints) == {"judge/pairwise_cot"}
    divided = built(method="salmon", salmon={"variances": {"kind": 2.0}})
    assert divided.transforms("kind") == (Temperature(2.0),)
    assert divided.transforms("brief") == ()
    assert built(method="rubric", rubric={"both_polarities": False}).cost.labels == 1
    assert built(pairwise={"words": True}).cost.texts == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rubric": {"scale": 2.0}}, "rubric has no effect: the method is pairwise"),
        ({"method": "salmon", "pairwise": {"exemplars": 2}}, "pairwise has no effect"),
        ({"pairwise": {"clamp": 0.4}}, "clamp is for labels made with chain_of_thought"),
        ({"pairwise": {"temperature": 1.0}}, "temperature is for reasoning"),
        ({"pairwise": {"max_tokens": 9}}, "max_tokens is for"),
        ({"pairwise": {"samples": 8, "temperature": 1.0}}, "samples has no effect"),
        ({"pairwise": {"samples": 8, "words": True}}, "samples at temperature 0"),
        ({"pairwise": {"thinking": 99, "chain_of_thought": True}}, "leave one of them out"),
        ({"pairwise": {"think_tags": ["[T]", "[/T]"]}}, "think_tags has no effect"),
        ({"pairwise": {"chain_of_thought": True, "clamp": 0.5}}, "less than 0.5"),
    ],
)
def test_settings_without_effect_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "rubric", "rubric": {"weights": {"kin": 1.0}}},
        {"method": "salmon", "salmon": {"variances": {"kin": 1.0}}},
    ],
)
def test_a_principle_that_is_not_judged_cannot_be_weighed(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"no judged principle has the id 'kin'.*'kind'"):
        built(**fields)


def run(judge: dict[str, Any], judging: dict[str, Any]) -> RunConfig:
    return load_config(
        RunConfig,
        {
            "name": "r",
            "prompts": {"path": "p.jsonl"},
            "constitution": "hhh",
            "student": {"engine": "scripted", "model": "echo"},
            "judges": [{"engine": "scripted", "model": "echo", **judge}],
            "judging": judging,
            "out": "out",
        },
    )


@pytest.mark.parametrize(
    ("judge", "judging", "message"),
    [
        ({"method": "salmon"}, {"orders": "one"}, "leaves nothing to compare"),
        ({"method": "pointwise"}, {"orders": "one"}, "no judge is shown two responses"),
        ({"method": "contrast"}, {"min_mass": 0.5}, "min_mass has no effect"),
        ({"pairwise": {"words": True}}, {"min_mass": 0.5}, "min_mass has no effect"),
    ],
)
def test_settings_that_no_judge_uses_are_refused(
    judge: dict[str, Any], judging: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(judge, judging)


def test_a_config_that_was_written_out_can_be_read_again() -> None:
    settings = run({"pairwise": {"chain_of_thought": True, "clamp": 0.2}}, {"orders": "one"})
    assert load_config(RunConfig, settings.model_dump(mode="json")) == settings


def test_a_setting_that_means_what_a_plan_without_it_did_is_left_out_of_the_plan() -> None:
    averaged = config(method="rubric", rubric={"combine": "mean"}).plan()
    assert "combine" not in averaged["rubric"]
    assert config(method="rubric").plan()["rubric"]["combine"] == "sum"
