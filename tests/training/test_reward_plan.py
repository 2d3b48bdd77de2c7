import shutil
from pathlib import Path
from typing import Any

import pytest

from rlaif.config.load import load_config
from rlaif.config.ppo import PpoConfig, PpoFile, RlooFile
from rlaif.errors import RunMismatch
from rlaif.training.dpo.train import train_dpo
from rlaif.training.online import train_rloo
from rlaif.training.ppo import train_ppo
from rlaif.training.reward_plan import reward_plan
from tests.training.ppo.small import PROMPTS, count_word, save_reward_model
from tests.training.tiny import colour_pairs, make_tiny

RULES = """
name: rules
version: 1.0.0
principles:
  - {id: brief, kind: rule, statement: Few words., rule: {max_words: 2}}
"""
JUDGED = "{name: judged, version: 1.0.0, principles: [{id: good, statement: Be good.}]}"
JUDGE = "{engine: openai, model: m, base_url: 'http://a', method: pointwise, options: {OPTIONS}}"
PANEL = f"reward: {{judged: {{judges: [{JUDGE}], constitution: judged.yaml, out: ledger}}}}"
QUICK: dict[str, Any] = {
    "rollouts": 1,
    "rollout_size": 8,
    "minibatch_size": 8,
    "max_new_tokens": 4,
    "show_samples": 0,
}
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing")


def plan(folder: Path, said: str, *, rules: str = RULES, judged: str = JUDGED) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "rules.yaml").write_text(rules)
    (folder / "judged.yaml").write_text(judged)
    path = folder / "ppo.yaml"
    path.write_text(f"{{model: m, prompts: {{path: p.jsonl}}, out: out, {said}}}")
    return reward_plan(load_config(PpoFile, path))


def test_rules_count_by_their_content_and_not_by_their_place(tmp_path: Path):
    said = "reward: {rules: rules.yaml}"
    before = plan(tmp_path / "a", said)
    assert plan(tmp_path / "b", said) == before
    assert plan(tmp_path / "a", said, rules=RULES.replace("2}", "3}")) != before


def test_weights_and_the_length_penalty_count(tmp_path: Path):
    before = plan(tmp_path, "reward: {rules: rules.yaml}")
    assert plan(tmp_path, "reward: {rules: rules.yaml, weight: 2}") != before
    costly = plan(tmp_path, "reward: {rules: rules.yaml}, length_penalty: {per_word: 0.1}")
    assert costly != before


def test_a_reward_model_counts_by_its_weights(tmp_path: Path):
    save_reward_model(tmp_path / "rm")
    shutil.copytree(tmp_path / "rm", tmp_path / "copy")
    before = plan(tmp_path, "reward: {reward_model: rm}")
    assert plan(tmp_path, "reward: {reward_model: copy}") == before
    save_reward_model(tmp_path / "rm", initializer_range=0.2)
    assert plan(tmp_path, "reward: {reward_model: rm}") != before


def test_judges_count_by_what_they_are_asked_and_not_by_how_fast(tmp_path: Path):
    before = plan(tmp_path, PANEL.replace("{OPTIONS}", "{}"))
    moved = PANEL.replace("http://a", "http://b").replace("ledger", "other")
    assert plan(tmp_path, moved.replace("{OPTIONS}", "{timeout_s: 5}")) == before
    assert plan(tmp_path, PANEL.replace("{OPTIONS}", "{extra_body: {top_k: 1}}")) != before
    reworded = JUDGED.replace("Be good", "Be kind")
    assert plan(tmp_path, PANEL.replace("{OPTIONS}", "{}"), judged=reworded) != before


def test_a_callable_has_no_content_to_compare():
    assert reward_plan(PpoConfig()) == {}


@pytest.mark.parametrize(("train", "kind"), [(train_ppo, PpoFile), (train_rloo, RlooFile)])
def test_a_training_is_not_resumed_with_another_reward(train, kind, tiny: Path, tmp_path: Path):
    def go(rules: str) -> Any:
        (tmp_path / "rules.yaml").write_text(rules)
        extra = {"critic_warmup": 0} if kind is PpoFile else {"group_size": 4}
        said = {
            "model": str(tiny),
            "prompts": {"path": "p"},
            "out": str(tmp_path / "out"),
            "reward": {"rules": str(tmp_path / "rules.yaml")},
            **QUICK,
            **extra,
        }
        config = load_config(kind, said)
        return train(
            prompts=PROMPTS, model=tiny, scorer=count_word, out=tmp_path / "out", config=config
        )

    go(RULES)
    assert go(RULES).already_finished
    with pytest.raises(RunMismatch, match="what differs: reward"):
        go(RULES.replace("2}", "3}"))


def test_a_reference_and_a_critic_count_by_their_weights(tiny: Path, tmp_path: Path):
    said: dict[str, Any] = {"reference_model": str(tmp_path / "other"), "max_steps": 1}

    def dpo() -> Any:
        return train_dpo(dataset=colour_pairs(8), model=tiny, out=tmp_path / "dpo", **said)

    make_tiny(tmp_path / "other", seed=1)
    dpo()
    make_tiny(tmp_path / "other", seed=2)
    with pytest.raises(RunMismatch, match="reference_model"):
        dpo()

    def ppo() -> Any:
        return train_ppo(
            prompts=PROMPTS,
            model=tiny,
            scorer=count_word,
            out=tmp_path / "ppo",
            critic=str(tmp_path / "rm"),
            critic_warmup=0,
            **QUICK,
        )

    save_reward_model(tmp_path / "rm")
    ppo()
    save_reward_model(tmp_path / "rm", initializer_range=0.2)
    with pytest.raises(RunMismatch, match="critic"):
        ppo()
