"""The scorer of a training file: what it gives, and what a resume must agree with."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.config.load import load_config
from rlaif.config.online import GrpoConfig
from rlaif.config.ppo import PpoConfig
from rlaif.errors import ConfigError, InputError, RunMismatch
from rlaif.serving.scorer import opened_scorer
from rlaif.training.reward_model_scorer import reward_model_scorer
from rlaif.training.scorers import clipped, collect_scores, identity_of, mixture
from tests.training.ppo.small import PROMPTS, count_word, save_reward_model
from tests.training.tiny import colour_pairs, make_tiny, user

RULES = """
name: rules
version: 1.0.0
principles:
  - {id: brief, kind: rule, statement: At most two words., rule: {max_words: 2}}
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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def read(folder: Path, said: str, *, rules: str = RULES, judged: str = JUDGED) -> PpoConfig:
    folder.mkdir(exist_ok=True)
    (folder / "rules.yaml").write_text(rules)
    (folder / "judged.yaml").write_text(judged)
    path = folder / "ppo.yaml"
    path.write_text(f"{{model: m, prompts: {{path: p.jsonl}}, out: out, {said}}}")
    return load_config(PpoConfig, path)


def score(config: PpoConfig, text: str) -> float | None:
    assert config.reward is not None
    with opened_scorer(config.reward, config.length_penalty) as opened:
        return collect_scores(opened.scorer, [user("say red")], [text], {})[0]  # type: ignore[list-item]


def identity(folder: Path, said: str, **files: str) -> dict[str, Any]:
    config = read(folder, said, **files)
    assert config.reward is not None
    with opened_scorer(config.reward, config.length_penalty) as opened:
        return identity_of(opened.scorer)


def test_rules_are_read_from_beside_the_file(tmp_path: Path):
    config = read(tmp_path, "reward: {rules: rules.yaml}")
    assert score(config, "good red") == 1.0
    assert score(config, "very good red") == 0.0


def test_parts_are_weighted_and_length_costs(tmp_path: Path):
    save_reward_model(tmp_path / "rm")
    alone = score(read(tmp_path, "reward: {reward_model: rm}"), "good red")
    assert alone is not None
    parts = "reward: [{rules: rules.yaml, weight: 2}, {reward_model: rm, weight: 0.5}]"
    assert score(read(tmp_path, parts), "good red") == pytest.approx(2 + 0.5 * alone)
    penalty = f"{parts}, length_penalty: {{per_word: 0.1, free_words: 1}}"
    assert score(read(tmp_path, penalty), "good red") == pytest.approx(1.9 + 0.5 * alone)


def test_a_constitution_without_rules_scores_nothing_and_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no principle of this constitution is a rule"):
        score(read(tmp_path, "reward: {rules: judged.yaml}"), "good")


@pytest.mark.parametrize("reward", ["{}", "{rules: rules.yaml, reward_model: rm}"])
def test_a_part_names_exactly_one_scorer(tmp_path: Path, reward: str):
    with pytest.raises(ConfigError, match="exactly one of rules, reward_model and judged"):
        read(tmp_path, f"reward: {reward}")


def test_rules_count_by_their_content_and_not_by_their_place(tmp_path: Path):
    said = "reward: {rules: rules.yaml}"
    before = identity(tmp_path / "a", said)
    assert identity(tmp_path / "b", said) == before
    assert identity(tmp_path / "a", said, rules=RULES.replace("2}", "3}")) != before


def test_weights_and_the_length_penalty_count(tmp_path: Path):
    before = identity(tmp_path, "reward: {rules: rules.yaml}")
    assert identity(tmp_path, "reward: {rules: rules.yaml, weight: 2}") != before
    costly = identity(tmp_path, "reward: {rules: rules.yaml}, length_penalty: {per_word: 0.1}")
    assert costly != before


def test_a_reward_model_counts_by_its_weights(tmp_path: Path):
    save_reward_model(tmp_path / "rm")
    shutil.copytree(tmp_path / "rm", tmp_path / "copy")
    before = identity(tmp_path, "reward: {reward_model: rm}")
    assert identity(tmp_path, "reward: {reward_model: copy}") == before
    save_reward_model(tmp_path / "rm", initializer_range=0.2)
    assert identity(tmp_path, "reward: {reward_model: rm}") != before


def test_judges_count_by_what_they_are_asked_and_not_by_how_fast(tmp_path: Path):
    before = identity(tmp_path, PANEL.replace("{OPTIONS}", "{}"))
    moved = PANEL.replace("http://a", "http://b").replace("ledger", "other")
    assert identity(tmp_path, moved.replace("{OPTIONS}", "{timeout_s: 5}")) == before
    assert identity(tmp_path, PANEL.replace("{OPTIONS}", "{extra_body: {top_k: 1}}")) != before
    reworded = JUDGED.replace("Be good", "Be kind")
    assert identity(tmp_path, PANEL.replace("{OPTIONS}", "{}"), judged=reworded) != before


def test_scorers_put_together_in_python_are_told_apart_where_all_parts_can_be(tmp_path: Path):
    assert identity_of(count_word) == {}
    model = reward_model_scorer(str(save_reward_model(tmp_path / "rm")))
    both = mixture([(model, 1.0), (clipped(model, -1, 1), 0.5)])
    other = mixture([(model, 1.0), (clipped(model, -1, 2), 0.5)])
    assert set(identity_of(both)) == {"reward"}
    assert identity_of(both) != identity_of(other)
    assert identity_of(mixture([(model, 1.0), (count_word, 0.5)])) == {}


def as_file(said: dict[str, Any], folder: Path) -> Path:
    path = folder / "train.yaml"
    path.write_text(json.dumps(said))
    return path


@pytest.mark.parametrize(
    ("train", "extra", "given"),
    [
        (rlaif.train_ppo, {"critic_warmup": 0}, as_file),
        (rlaif.train_rloo, {"group_size": 4}, lambda said, _: said),
        (rlaif.train_grpo, {"group_size": 4}, lambda said, _: load_config(GrpoConfig, said)),
    ],
)
def test_a_file_a_mapping_or_settings_name_prompts_and_reward_as_the_command_reads_them(
    train, extra, given, tiny: Path, tmp_path: Path
):
    lines = [json.dumps({"prompt": prompt}) for prompt in PROMPTS]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))

    def go(rules: str) -> Any:
        (tmp_path / "rules.yaml").write_text(rules)
        said = {
            "model": str(tiny),
            "out": str(tmp_path / "out"),
            "prompts": {"path": str(tmp_path / "prompts.jsonl")},
            "reward": {"rules": str(tmp_path / "rules.yaml")},
        }
        return train(given({**said, **QUICK, **extra}, tmp_path))

    assert go(RULES).steps == 1
    assert go(RULES).already_finished
    with pytest.raises(RunMismatch, match="what differs: reward"):
        go(RULES.replace("2}", "3}"))


def test_a_training_whose_scorer_had_no_identity_is_known_as_finished(tiny: Path, tmp_path: Path):
    def go(scorer: Any) -> Any:
        more: dict[str, Any] = {"group_size": 4, **QUICK}
        return rlaif.train_rloo(
            prompts=PROMPTS, scorer=scorer, model=tiny, out=tmp_path / "out", **more
        )

    go(count_word)
    model = reward_model_scorer(str(save_reward_model(tmp_path / "rm")))
    assert go(model).already_finished


def test_without_a_reward_or_prompts_nothing_is_started(tiny: Path, tmp_path: Path):
    with pytest.raises(InputError, match="reward is missing"):
        rlaif.train_ppo(model=tiny, out=tmp_path / "out", prompts=PROMPTS)
    with pytest.raises(InputError, match="prompts are missing"):
        rlaif.train_ppo(model=tiny, out=tmp_path / "out", scorer=count_word)
    assert not (tmp_path / "out").exists()


def test_a_reference_and_a_critic_count_by_their_weights(tiny: Path, tmp_path: Path):
    said: dict[str, Any] = {"reference_model": str(tmp_path / "other"), "max_steps": 1}

    def dpo() -> Any:
        return rlaif.train_dpo(dataset=colour_pairs(8), model=tiny, out=tmp_path / "dpo", **said)

    make_tiny(tmp_path / "other", seed=1)
    dpo()
    make_tiny(tmp_path / "other", seed=2)
    with pytest.raises(RunMismatch, match="reference_model"):
        dpo()

    def ppo() -> Any:
        return rlaif.train_ppo(
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
