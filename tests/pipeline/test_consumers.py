"""Exports loaded by the trainers they are for; `scripts/fetch_consumers` unpacks those."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlaif.pipeline import export
from rlaif.runs import Run
from tests.pipeline.exported import make_run
from tests.training.tiny import make_tokenizer

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("RLAIF_CONSUMERS", ROOT / ".consumers"))
PACKAGES = {
    "openrlhf": "openrlhf",
    "verl": "verl",
    "llama-factory": "llamafactory",
    "axolotl": "axolotl",
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def loaded(to: str, what: str, run: Run, model: Path, folder: Path) -> Any:
    package = FOLDER / PACKAGES[to]
    if not package.is_dir():
        pytest.skip(f"{package} is not there: scripts/fetch_consumers unpacks it")
    out = folder / "data-set"
    export(run, out, what=what, to=to)
    command = [sys.executable, "-m", "tests.pipeline.consumers", to]
    done = subprocess.run(
        [*command, str(package), what, str(out), str(model)],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [one for one in done.stdout.splitlines() if one.startswith("RESULT ")]
    return json.loads(line.removeprefix("RESULT "))


def test_openrlhf_loads_pairs_for_rewards_and_dpo(run: Run, model: Path, tmp_path: Path):
    first = loaded("openrlhf", "pairs", run, model, tmp_path)[0]
    assert first["prompt"] == "<s> user say the sky </s> <s> assistant"
    assert first["chosen"] == "<s> user say the sky </s> <s> assistant good blue </s>"
    assert first["rejected"] == "<s> user say the sky </s> <s> assistant bad red </s>"
    assert first["margin"] == pytest.approx(0.8)


def test_openrlhf_loads_demonstrations_and_learns_the_response(
    run: Run, model: Path, tmp_path: Path
):
    first = loaded("openrlhf", "demonstrations", run, model, tmp_path)[0]
    assert first["text"] == "<s> user say the sky </s> <s> assistant good blue </s>"
    assert first["learned"] == "good blue </s>"


def test_openrlhf_loads_prompts_and_hands_our_label_to_the_reward(
    run: Run, model: Path, tmp_path: Path
):
    from rlaif.serving.requests import read_openrlhf

    first = loaded("openrlhf", "prompts", run, model, tmp_path)[0]
    query = first["prompt"] + "good red </s>"
    body = {"query": [query], "prompts": [first["prompt"]], "labels": [first["label"]]}
    (question,) = read_openrlhf(body)
    assert question.messages == [{"role": "user", "content": "say the sky"}]
    assert (question.response, question.tags, question.reference) == (
        "good red",
        ("colour",),
        "good blue",
    )


def test_verl_loads_prompts_and_hands_the_prompt_to_the_reward(
    run: Run, model: Path, tmp_path: Path
):
    from rlaif.serving.requests import read_verl

    first = loaded("verl", "prompts", run, model, tmp_path)[0]
    assert first["raw_prompt"] == [{"role": "user", "content": "say the sky"}]
    asked = {
        "data_source": first["data_source"],
        "solution_str": "good red",
        "ground_truth": first["reward_model"]["ground_truth"],
        "extra_info": first["extra_info"],
    }
    (question,) = read_verl(asked)
    assert question.messages == first["raw_prompt"]
    assert (question.tags, question.reference) == (("colour",), "good blue")


def test_verl_loads_demonstrations(run: Run, model: Path, tmp_path: Path):
    rows = loaded("verl", "demonstrations", run, model, tmp_path)
    assert rows[0]["learned"].split()[-3:] == ["good", "blue", "</s>"]


@pytest.mark.parametrize("what", ["pairs", "demonstrations", "prompts"])
def test_llama_factory_converts_every_row(what: str, run: Run, model: Path, tmp_path: Path):
    rows = loaded("llama-factory", what, run, model, tmp_path)
    replies = {"pairs": ["good blue", "bad red"], "demonstrations": ["good blue"], "prompts": [""]}
    assert rows[0]["_prompt"] == [{"role": "user", "content": "say the sky"}]
    assert [reply["content"] for reply in rows[0]["_response"]] == replies[what]
    assert rows[1]["_system"] == "say yes"
    assert all(row["_prompt"] for row in rows)  # it empties what it calls abnormal


def test_axolotl_loads_pairs_and_demonstrations(run: Run, model: Path, tmp_path: Path):
    (tmp_path / "a").mkdir()
    pair = loaded("axolotl", "pairs", run, model, tmp_path / "a")[0]
    assert pair["prompt"].strip() == "<s> user say the sky </s> <s> assistant"
    assert pair["chosen"].split() == ["good", "blue", "</s>"]
    (tmp_path / "b").mkdir()
    rows = loaded("axolotl", "demonstrations", run, model, tmp_path / "b")
    assert rows[0]["learned"].split() == ["good", "blue", "</s>"]
