from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rlaif.errors import ConfigError, InputError, RunMismatch
from rlaif.training.reward.train import gold_names, train_reward
from tests.training.tiny import assistant, colour_pairs, make_tiny, user


def test_separable_pairs_are_learned_and_the_model_is_plain_transformers(tmp_path):
    folder = make_tiny(tmp_path / "tiny", pad_is_eos=True)
    result = train_reward(
        dataset=colour_pairs(64, p=[1.0, 0.9]),
        model=folder,
        out=tmp_path / "out",
        learning_rate=5e-3,
        epochs=3,
        held_out=0.3,
        centring=0.01,
    )
    held_out = result.metrics["held_out"]
    assert held_out["accuracy"]["value"] > 0.95
    assert held_out["calibration_error"]["value"] < 0.2
    assert -1.0 <= held_out["length_correlation"]["value"] <= 1.0
    scorer = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert scorer.config.num_labels == 1
    texts = [
        tokenizer.apply_chat_template(user("say red") + assistant(reply), tokenize=False)
        for reply in ("good red", "bad red now then")
    ]
    batch = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.no_grad():
        scores = scorer(**batch).logits.squeeze(-1)
    assert scores[0] > scores[1] + 0.5
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "held_out.accuracy.value" in card


def test_gold_pairs_are_measured_beside_the_held_out_ones(tiny, tmp_path):
    path = tmp_path / "gold.jsonl"
    path.write_text(
        '{"prompt": "say red", "response_a": "bad", "response_b": "good red", "label": "b"}\n'
        '{"prompt": "say red", "response_a": "x", "response_b": "y", "label": "tie"}\n',
        encoding="utf-8",
    )
    result = train_reward(
        dataset=colour_pairs(16),
        model=tiny,
        out=tmp_path / "out",
        learning_rate=5e-3,
        epochs=4,
        held_out=0.0,
        gold=[str(path)],
        lora={"r": 4},
    )
    assert "held_out" not in result.metrics
    assert result.metrics["gold.gold"]["pairs"] == 1
    assert result.metrics["gold.gold"]["accuracy"]["value"] == 1.0


def test_a_margin_needs_its_column(tiny, tmp_path):
    with pytest.raises(InputError, match="margin column"):
        train_reward(dataset=colour_pairs(8), model=tiny, out=tmp_path / "out", margin_scale=1.0)


def test_gold_sets_of_the_same_file_name_are_told_apart():
    named = gold_names(["/d/a/test.jsonl", "/d/b/test.jsonl"])
    assert named == {"a/test": "/d/a/test.jsonl", "b/test": "/d/b/test.jsonl"}
    assert list(gold_names(["/d/gold.jsonl", "owner/other"])) == ["gold", "other"]
    assert len(gold_names(["/d/test.jsonl", "/d/test.parquet"])) == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"samples": {"every": 5}}, "samples has no effect"), ({"gold": ["a", "a"]}, "a set twice")],
)
def test_settings_without_effect_are_refused(tiny, tmp_path, setting, message: str):
    with pytest.raises(ConfigError, match=message):
        train_reward(dataset=colour_pairs(8), model=tiny, out=tmp_path / "out", **setting)


def test_another_gold_set_is_another_plan_and_named(tiny, tmp_path):
    settings: dict[str, Any] = {
        "model": tiny,
        "out": tmp_path / "out",
        "max_steps": 1,
        "held_out": 0.0,
    }
    colour_pairs(4).to_parquet(tmp_path / "gold.parquet")
    train_reward(dataset=colour_pairs(8), **settings)
    with pytest.raises(RunMismatch, match="what differs: gold"):
        train_reward(dataset=colour_pairs(8), gold=[str(tmp_path / "gold.parquet")], **settings)
