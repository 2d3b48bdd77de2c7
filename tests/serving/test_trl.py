import asyncio
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from typer.testing import CliRunner

import rlaif
from rlaif.cli import train as train_command
from rlaif.errors import ConfigError
from rlaif.serving.client import RewardFailed, compute_score, post, reward_func
from rlaif.training.harness.recipe import quiet_libraries
from tests.serving.serve import failing, judged, serving
from tests.training.ppo.test_cli import FILES, write
from tests.training.tiny import make_tiny, user

# TRL sets the old name of the option itself
pytestmark = pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated")
ROWS = [{"prompt": user(f"say {word}"), "tags": ["t"]} for word in ("red", "blue", "sky", "sea")]


def train(model: Path, out: Path, reward: Any) -> dict[str, float]:
    with quiet_libraries():
        arguments = GRPOConfig(
            output_dir=str(out),
            per_device_train_batch_size=8,
            num_generations=8,
            max_completion_length=4,
            max_steps=1,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            save_strategy="no",
            dataloader_pin_memory=False,
        )
        trainer = GRPOTrainer(
            model=str(model),
            reward_funcs=reward,
            args=arguments,
            train_dataset=Dataset.from_list(ROWS),
        )
        trainer.train()
    logged: dict[str, float] = trainer.state.log_history[0]
    return logged


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def test_trl_takes_a_step_on_judges_in_its_own_process(model: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reward = rlaif.build_reward_func({"reward": judged()})
    logged = train(model, tmp_path / "out", reward)
    assert -4.0 < logged["rewards/rlaif_reward/mean"] < 4.0
    assert logged["rewards/rlaif_reward/std"] > 0.0
    assert logged["rlaif/unscored"] == 0.0
    assert (tmp_path / "ledger" / "ledger.sqlite").exists()


def test_trl_leaves_out_what_the_server_could_not_score(model: Path, tmp_path: Path):
    with serving(tmp_path, failing(0.5, principles={"choose": "one"})) as server:
        logged = train(model, tmp_path / "out", rlaif.build_reward_func(server.url))
    assert 0.0 < logged["rlaif/unscored"] < 1.0


def test_verl_and_openrlhf_ask_through_the_client(tmp_path: Path, monkeypatch):
    import numpy as np

    extra = {"prompt": np.array(user("say red"), dtype=object), "index": np.int64(3)}
    with serving(tmp_path, judged()) as server:
        found = asyncio.run(compute_score("d", "red", "", extra, url=server.url, other=1))
        monkeypatch.setenv("RLAIF_REWARD_URL", server.url)
        query, prompt = "[INST] say red [/INST]red</s>", "[INST] say red [/INST]"
        assert reward_func([query], [prompt], [""])["rewards"] == [found["score"]]
        with pytest.raises(RewardFailed, match="status 400: extra_info: holds no 'prompt'"):
            asyncio.run(compute_score("d", "red", "", None))
    with pytest.raises(RewardFailed, match="refused"):
        post("/score", {}, tries=1)


def test_an_unscored_response_stops_verl_with_the_reason(tmp_path: Path):
    said = "status 422: unscored: the judge 'main' abstained"
    with serving(tmp_path, failing()) as server, pytest.raises(RewardFailed, match=said):
        asyncio.run(compute_score("d", "red", "", {"prompt": "say red"}, url=server.url))


def test_mistakes_in_the_file_are_told_before_training():
    with pytest.raises(ConfigError, match="'reward' is missing"):
        rlaif.build_reward_func({})


@pytest.mark.slow
def test_judges_reward_our_own_trainers_from_one_file(tmp_path: Path):
    command = "ppo"
    path = write(tmp_path, command)
    judges = "[{name: j, engine: scripted, model: judge-random, method: pointwise}]"
    judged = f"{{judged: {{judges: {judges}, constitution: hhh, out: ledger}}}}"
    path.write_text(FILES[command].replace("{rules: rules.yaml}", judged))
    done = CliRunner().invoke(train_command.app, [command, str(path)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "judged" in (tmp_path / "out" / "README.md").read_text()
    assert (tmp_path / "ledger" / "ledger.sqlite").stat().st_size > 0
