from pathlib import Path

import pytest

from rlaif.config.load import load_config
from rlaif.config.ppo import PpoFile
from rlaif.errors import ConfigError, InputError
from rlaif.training.build_scorer import build_scorer
from rlaif.training.scorers import collect_scores
from tests.training.ppo.small import save_reward_model
from tests.training.tiny import user

RULES = """
name: rules
version: 1.0.0
principles:
  - {id: brief, kind: rule, statement: At most two words., rule: {max_words: 2}}
"""
JUDGED = "{name: none, version: 1.0.0, principles: [{id: good, statement: Be good.}]}"


def read(tmp_path: Path, reward: str) -> PpoFile:
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "judged.yaml").write_text(JUDGED)
    path = tmp_path / "ppo.yaml"
    path.write_text(f"{{model: m, prompts: {{path: p.jsonl}}, out: out, {reward}}}")
    return load_config(PpoFile, path)


def score(config: PpoFile, text: str) -> float | None:
    scorer = build_scorer(config.reward, config.length_penalty)
    return collect_scores(scorer, [user("say red")], [text], {})[0]  # type: ignore[list-item]


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
