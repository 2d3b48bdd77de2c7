"""What a loop refuses before its first round: nothing may crash after everything was paid."""

import json
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.config import load_config
from rlaif.config.evaluate import LoopConfig
from rlaif.errors import ConfigError, ConstitutionError, EngineMissing, InputError
from rlaif.evaluation.scorecard import Estimate, Scorecard
from rlaif.loop.checks import choose_direction
from tests.loop.test_loop import project, write

JUDGE = {"name": "j", "engine": "scripted", "model": "echo"}


def change(path: Path, **settings: Any) -> None:
    write(path, json.loads(path.read_text()) | settings)


@pytest.mark.parametrize(
    ("file", "settings", "error", "says"),
    [
        ("loop.yaml", {"measure": "wins/judges"}, ConfigError, "asks no judge"),
        ("loop.yaml", {"measure": "wins/judges/equal-length"}, ConfigError, "asks no judge"),
        ("loop.yaml", {"measure": "rule"}, ConfigError, "will not measure 'rule'"),
        ("loop.yaml", {"measure": "likelihood"}, ConfigError, "will not measure"),
        ("loop.yaml", {"measure": "length/words"}, ConfigError, "direction is missing"),
        ("eval.yaml", {"likelihood_under": "before"}, ConfigError, "parent, round"),
        ("eval.yaml", {"constitution": "none.yaml"}, ConstitutionError, "none.yaml"),
        ("eval.yaml", {"prompts": {"path": "none.jsonl"}}, InputError, "none.jsonl"),
        ("eval.yaml", {"prompts": {"path": "held.jsonl", "limit": 1}}, InputError, "one prompt"),
        ("eval.yaml", {"judges": [JUDGE]}, ConfigError, "only rule principles"),
        ("run.yaml", {"prompts": {"path": "none.jsonl"}}, InputError, "none.jsonl"),
        ("run.yaml", {"gate": {"audit": "none.json", "min_accuracy": 0.6}}, InputError, "gate"),
        ("train.yaml", {"loss": "robust"}, ConfigError, "noise"),
        ("train.yaml", {"report_to": ["wandb"]}, EngineMissing, "wandb"),
    ],
)
def test_what_no_round_could_use_is_refused_before_the_first(
    tmp_path: Path, file: str, settings: dict[str, Any], error: type[Exception], says: str
) -> None:
    config = project(tmp_path)
    change(tmp_path / file, **settings)
    with pytest.raises(error, match=says):
        rlaif.run_loop(config)
    assert not (tmp_path / "loop").exists()


def settings(measure: str, direction: str | None = None) -> LoopConfig:
    files = {"run": "r", "train": "t", "evaluate": "e"}
    plain = {"name": "l", **files, "out": "o", "measure": measure, "direction": direction}
    return load_config(LoopConfig, plain)


def test_a_measure_says_its_own_direction_and_settings_may_say_another() -> None:
    from rlaif.evaluation.catalogue import ALWAYS, BY_JUDGES

    measures = (*ALWAYS, *BY_JUDGES)
    assert choose_direction(settings("length/cut-off"), measures) == "down"
    assert choose_direction(settings("wins/judges/equal-length"), measures) == "up"
    assert choose_direction(settings("refusals", "down"), measures) == "down"
    for measure in measures:
        assert choose_direction(settings(measure.name, "up"), measures) == "up"


def card(*, changes: tuple[Estimate, ...] = (), estimates: tuple[Estimate, ...] = ()) -> Scorecard:
    from rlaif.evaluation.catalogue import ALWAYS, BY_JUDGES

    return Scorecard(
        name="",
        fingerprint="",
        constitution="",
        baseline="parent",
        models=("parent", "round"),
        slices={"all": 20},
        draws={},
        measures=(*ALWAYS, *BY_JUDGES),
        estimates=estimates,
        changes=changes,
        failures={},
    )


def estimate(measure: str, *numbers: float | None) -> Estimate:
    value, low, high = numbers
    return Estimate("round", measure, "all", value, low, high, 20, 20, 0, "bootstrap")


def test_a_win_rate_gains_from_one_half_and_other_measures_by_their_change() -> None:
    won = card(estimates=(estimate("wins/judges", 0.75, 0.625, 0.875),))
    gain = won.gain("round", "wins/judges")
    assert gain is not None
    assert (gain.estimate, gain.low, gain.high) == (0.25, 0.125, 0.375)
    shorter = card(changes=(estimate("length/words", -3.0, -4.0, -2.0),))
    gain = shorter.gain("round", "length/words")
    assert gain is not None
    assert gain.estimate == -3.0


def test_what_was_not_measured_gains_nothing_rather_than_crashing() -> None:
    assert card().gain("round", "wins/judges") is None
    assert card().gain("round", "refusals") is None
    unknown = card(estimates=(estimate("wins/judges", None, None, None),))
    gain = unknown.gain("round", "wins/judges")
    assert gain is not None
    assert gain.estimate is None
