"""A whole loop on a tiny random model that learns to say a word."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rlaif
from rlaif.cli.main import app
from rlaif.errors import ConfigError, ModelUnknown, RunMismatch
from rlaif.loop import Round, Shown, Stage
from tests.engines.faults import error, serving
from tests.training.tiny import COLOURS, make_tiny


def write(path: Path, data: dict[str, Any]) -> Path:
    path.write_text(json.dumps(data))
    return path


def project(folder: Path, *, learning_rate: float = 3e-3, **loop: Any) -> Path:
    """A loop whose rule is to say "red"; a random model does so sometimes."""
    model = make_tiny(folder / "model")
    words = [f"say {a} {b}" for a in COLOURS for b in COLOURS]
    for name, some in (("train", words[::2]), ("held", words[1::2])):
        lines = [json.dumps({"prompt": text}) for text in some]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    rule = {
        "id": "says-red",
        "kind": "rule",
        "statement": "Say red.",
        "rule": {"must_match": r"\bred\b"},
    }
    write(folder / "red.yaml", {"name": "red", "version": "1", "principles": [rule]})
    sampling = {"n": 4, "max_tokens": 8}
    write(
        folder / "run.yaml",
        {
            "name": "r",
            "prompts": {"path": "train.jsonl"},
            "constitution": "red.yaml",
            "student": {"engine": "transformers", "model": str(model), "sampling": sampling},
            "out": "unused",
        },
    )
    write(
        folder / "train.yaml",
        {
            "model": "unused",
            "data": "unused",
            "out": "unused",
            "learning_rate": learning_rate,
            "epochs": 6,
            "batch_size": 8,
            "max_length": 64,
        },
    )
    models = [{"name": "unused", "engine": "transformers", "model": str(model)}]
    write(
        folder / "eval.yaml",
        {
            "name": "e",
            "prompts": {"path": "held.jsonl"},
            "constitution": "red.yaml",
            "models": models,
            "baseline": "unused",
            "sampling": {"n": 4, "max_tokens": 8},
            "out": "unused",
        },
    )
    files = {"run": "run.yaml", "train": "train.yaml", "evaluate": "eval.yaml"}
    return write(folder / "loop.yaml", {"name": "l", **files, "out": "loop", **loop})


@pytest.mark.slow
def test_a_round_that_improves_is_promoted_and_the_next_one_starts_from_it(tmp_path: Path):
    config = project(tmp_path, rounds=2)
    seen: list[Round] = []
    stages: list[tuple[int, Stage]] = []
    shown = Shown(on_stage=lambda number, stage: stages.append((number, stage)))
    outcome = rlaif.run_loop(config, on_round=seen.append, shown=shown)
    first, second = outcome.rounds
    assert first.promoted, first.why
    assert first.change is not None
    assert first.change > 0.1
    assert second.parent == first.checkpoint
    assert outcome.model == (second.checkpoint if second.promoted else first.checkpoint)
    assert [each.number for each in seen] == [1, 2]
    assert stages == [(n, s) for n in (1, 2) for s in ("generate", "train", "evaluate")]

    again = rlaif.run_loop(config)
    assert again == outcome

    with pytest.raises(RunMismatch, match="direction"):
        rlaif.run_loop(config, overrides={"direction": "down"})


@pytest.mark.slow
def test_the_command_shows_the_progress_of_every_stage(tmp_path: Path):
    config = project(tmp_path, rounds=1, learning_rate=1e-9)
    done = CliRunner().invoke(app, ["loop", str(config), "--json"])
    assert done.exit_code == 0, done.output
    events = [json.loads(line) for line in done.stdout.splitlines()]
    heads = [(place, e["stage"]) for place, e in enumerate(events) if e["event"] == "stage"]
    assert [stage for _, stage in heads] == ["generate", "train", "evaluate"]
    kinds = [event["event"] for event in events]
    (first, second, third) = (place for place, _ in heads)
    assert set(kinds[first + 1 : second]) == {"progress"}
    assert "step" in kinds[second + 1 : third]
    assert set(kinds[third + 1 : -2]) == {"progress"}
    assert kinds[-2:] == ["round", "done"]

    again = CliRunner().invoke(app, ["loop", str(config)])
    assert "round 1: stayed" in again.stdout
    assert again.stderr == ""


@pytest.mark.slow
def test_a_loop_without_gains_keeps_its_model_and_stops(tmp_path: Path):
    config = project(tmp_path, rounds=5, stop_after=2, learning_rate=1e-9)
    outcome = rlaif.run_loop(config)
    assert len(outcome.rounds) == 2
    assert not any(each.promoted for each in outcome.rounds)
    assert outcome.model == str(tmp_path / "model")
    assert "no gain" in outcome.why
    first, second = (tmp_path / "loop" / f"round-0{i}" / "run" for i in (1, 2))
    drawn = [sorted(r.text for r in rlaif.open_run(run).responses()) for run in (first, second)]
    assert drawn[0] != drawn[1], "every round must draw fresh samples"


def test_a_student_that_cannot_be_trained_is_refused_before_anything_starts(tmp_path: Path):
    config = project(tmp_path)
    run = json.loads((tmp_path / "run.yaml").read_text())
    write(tmp_path / "run.yaml", run | {"student": {"engine": "scripted", "model": "echo"}})
    with pytest.raises(ConfigError, match="transformers"):
        rlaif.run_loop(config)
    assert not (tmp_path / "loop").exists()


async def test_judges_of_an_evaluation_are_tried_before_the_first_round(tmp_path: Path) -> None:
    async with serving("plain") as server:
        server.models = ["other"]
        judge = {"name": "main", "engine": "openai", "model": "m", "base_url": server.base_url}
        config = project(tmp_path)
        evaluation = json.loads((tmp_path / "eval.yaml").read_text())
        write(tmp_path / "eval.yaml", {**evaluation, "constitution": "hhh", "judges": [judge]})
        with pytest.raises(ModelUnknown, match="judge:main"):
            await asyncio.to_thread(rlaif.run_loop, config)
        assert not (tmp_path / "loop").exists()


def edit(path: Path, **changes: Any) -> None:
    write(path, {**json.loads(path.read_text()), **changes})


def test_a_loop_in_which_no_round_has_pairs_ends_with_1(tmp_path: Path) -> None:
    config = project(tmp_path, rounds=3, stop_after=1)
    rule = json.loads((tmp_path / "red.yaml").read_text())["principles"][0]
    edit(tmp_path / "red.yaml", principles=[rule | {"rule": {"must_match": "never said"}}])
    for _ in range(2):
        done = CliRunner().invoke(app, ["loop", str(config)])
        assert done.exit_code == 1, done.output
        assert "error: no round was trained and measured: no preference pairs" in done.stderr


async def test_a_round_whose_judge_fails_stays_undecided_and_asks_it_again(tmp_path: Path) -> None:
    async with serving("vllm") as server:
        server.fault_of = lambda _: error(400, "not supported")
        judge = {"name": "main", "engine": "openai", "model": "m", "base_url": server.base_url}
        config = project(tmp_path, rounds=1)
        changes = {"constitution": "hhh", "judges": [judge], "give_up_after": 0}
        edit(tmp_path / "run.yaml", **changes, preflight=False)
        for _ in range(2):
            server.seen.clear()
            done = await asyncio.to_thread(CliRunner().invoke, app, ["loop", str(config)])
            assert done.exit_code == 1, done.output
            assert "no judge gave a readable verdict; most frequent failure: " in str(
                done.exception
            )
            assert server.chats()
    assert not list((tmp_path / "loop").glob("*/round.json"))
