"""Each row counts as it should: micro-batches of unequal size, responses of several turns."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from rlaif.errors import InputError
from rlaif.training.data.pairs import PairCollator
from rlaif.training.data.tokens import tokenise_demonstrations, tokenise_pairs
from rlaif.training.dpo.train import train_dpo
from rlaif.training.dpo.trainer import choose_layout, score_pairs
from rlaif.training.harness.metrics import read_metrics
from rlaif.training.models import load_policy
from rlaif.training.reward.train import train_reward
from rlaif.training.sft import _labelled, train_sft
from tests.training.tiny import assistant, colour_pairs, make_tiny, make_tokenizer, user

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing")
TRAINERS: dict[str, Any] = {"dpo": train_dpo, "reward": train_reward}
TALK = [*assistant("yes red"), *user("more"), *assistant("very good")]


def first_step(out: Path) -> dict[str, float]:
    return read_metrics(out)[0]


@pytest.mark.parametrize("kind", ["dpo", "reward", "dpo trl"])
def test_a_partial_micro_batch_counts_by_its_rows(kind: str, tiny: Path, tmp_path: Path):
    trainer = TRAINERS[kind.split()[0]]
    settings: dict[str, Any] = {
        "model": tiny,
        "max_steps": 1,
        "held_out": 0.0,
        "max_grad_norm": 1e9,
    }
    if kind == "dpo trl":
        settings |= {"loss": "sigmoid"}
    if kind.startswith("dpo"):
        other = make_tiny(tmp_path / "other", seed=1)
        settings |= {"reference_model": other, "reference": "second-model", "beta": 1.0}
    pairs = colour_pairs(10, p=[1.0, 0.7])
    trainer(dataset=pairs, out=tmp_path / "one", batch_size=10, **settings)
    trainer(dataset=pairs, out=tmp_path / "three", batch_size=4, accumulate=3, **settings)
    one, three = first_step(tmp_path / "one"), first_step(tmp_path / "three")
    names = ["loss", "grad_norm"]
    if kind != "dpo trl":
        names += ["accuracy", "score/chosen"] if kind == "reward" else ["rewards/margins"]
    for name in names:
        assert three[name] == pytest.approx(one[name], rel=1e-4), name


def test_the_last_rows_of_an_epoch_are_a_step_of_their_own(tiny: Path, tmp_path: Path):
    result = train_dpo(
        dataset=colour_pairs(10), model=tiny, out=tmp_path / "out", batch_size=4, accumulate=2
    )
    assert result.steps == 2


def test_held_out_rows_count_alike_in_partial_batches(tiny: Path, tmp_path: Path):
    pairs = colour_pairs(16, p=[1.0, 0.7])
    measured = []
    for size in (1, 3, 16):
        out = tmp_path / str(size)
        settings: dict[str, Any] = {"learning_rate": 1e-30, "held_out": 0.4, "max_steps": 1}
        result = train_dpo(dataset=pairs, model=tiny, out=out, batch_size=size, **settings)
        measured.append(result.metrics["held_out"]["logps/chosen"])
    assert measured == pytest.approx([measured[0]] * 3, rel=1e-5)


@pytest.mark.parametrize("own_loss", [True, False])
def test_only_the_assistants_turns_are_scored(own_loss: bool, tiny: Path):
    policy: Any
    policy, tokenizer = load_policy(str(tiny), frozen=True)
    row = {"prompt": user("say"), "chosen": TALK, "rejected": assistant("no"), "chosen_prob": 1.0}
    rows = list(tokenise_pairs(Dataset.from_list([row]), tokenizer, max_length=64).dataset)
    chosen = rows[0]["prompt_ids"] + rows[0]["chosen_ids"]
    logprobs = policy(torch.tensor([chosen])).logits.log_softmax(dim=-1)[0]
    # by hand: "yes red </s>" 3, "<s> user more </s> <s> assistant" 6, 3 more
    assert len(chosen) == len(rows[0]["prompt_ids"]) + 12
    start = len(rows[0]["prompt_ids"])
    said = [start, start + 1, start + 2, start + 9, start + 10, start + 11]
    expected = sum(float(logprobs[at - 1, chosen[at]]) for at in said)
    if own_loss:
        layout = choose_layout(policy, own_loss=True, length=64)
        assert layout == "shared"
        for which in ("shared", "apart"):
            batch = PairCollator(0, which)(rows)
            assert batch["lengths"].tolist() == [6, 2]
            assert float(score_pairs(policy, batch)[0][0]) == pytest.approx(expected, abs=1e-4)
        return
    mask = PairCollator(0, "trl")(rows)["completion_mask"]
    assert [at for at, learned in enumerate(mask[0].tolist()) if learned] == said
    assert int(mask[1].sum()) == 2


def test_a_demonstration_of_several_turns_teaches_the_assistants(tiny: Path, tmp_path: Path):
    tokenizer = make_tokenizer()
    rows = Dataset.from_list([{"prompt": user("say"), "completion": TALK}])
    tokens = tokenise_demonstrations(rows, tokenizer, max_length=64)
    labels = [label for label in _labelled(tokens.dataset)["labels"][0] if label != -100]
    assert tokenizer.convert_ids_to_tokens(labels) == ["yes", "red", "</s>", "very", "good", "</s>"]
    assert train_sft(dataset=rows, model=tiny, out=tmp_path / "out").steps == 1


def test_pairs_of_several_turns_are_trained_on(tiny: Path, tmp_path: Path):
    row = {"prompt": user("say"), "chosen": TALK, "rejected": assistant("no")}
    data = Dataset.from_list([*([row] * 4)])
    for kind, trainer in TRAINERS.items():
        settings: dict[str, Any] = {"held_out": 0.0, "max_steps": 1}
        assert trainer(dataset=data, model=tiny, out=tmp_path / kind, **settings).steps == 1


def test_a_margin_is_ignored_or_needed_whole(tiny: Path, tmp_path: Path):
    pairs = colour_pairs(4, margin=[0.5, None, 0.2, 0.1])
    assert train_dpo(dataset=pairs, model=tiny, out=tmp_path / "dpo").steps == 1
    settings: dict[str, Any] = {"model": tiny, "held_out": 0.0}
    assert train_reward(dataset=pairs, out=tmp_path / "rm", **settings).steps == 1
    with pytest.raises(InputError, match="row 2: margin is None, not a number"):
        train_reward(dataset=pairs, out=tmp_path / "m", margin_scale=1.0, **settings)
    texts = colour_pairs(4, margin=["wide", "narrow", "wide", "none"])
    assert train_dpo(dataset=texts, model=tiny, out=tmp_path / "texts").steps == 1


def test_a_pad_token_beyond_the_embeddings_trains(tmp_path: Path):
    folder = make_tiny(tmp_path / "base")
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<fill>"})
    tokenizer.save_pretrained(folder)
    for kind, trainer in TRAINERS.items():
        settings: dict[str, Any] = {"held_out": 0.0, "batch_size": 4}
        assert trainer(dataset=colour_pairs(8), model=folder, out=tmp_path / kind, **settings).steps


def test_a_token_without_an_embedding_is_named_before_anything_starts(tmp_path: Path):
    folder = make_tiny(tmp_path / "base")
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["purple"])
    tokenizer.save_pretrained(folder)
    rows = Dataset.from_list([{"prompt": "say", "completion": "purple"}])
    with pytest.raises(InputError, match="the token 'purple' has the number"):
        train_sft(dataset=rows, model=folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", TRAINERS)
def test_dropout_is_that_of_the_adapters_alone(
    kind: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: dict[str, float] = {}

    def note(self: Any, *_: Any, **__: Any) -> None:
        model = self.trainer.model
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Dropout):
                seen["adapter" if "lora" in name else "base"] = module.p
            seen["attention"] = max(
                seen.get("attention", 0.0), getattr(module, "attention_dropout", 0.0)
            )
        raise LookupError

    base = tmp_path / "base"
    shutil.copytree(tiny, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.2}))
    monkeypatch.setattr("rlaif.training.harness.trl.TrlLoop.run", note)
    with pytest.raises(LookupError):
        TRAINERS[kind](
            dataset=colour_pairs(8),
            model=base,
            out=tmp_path / "out",
            held_out=0.0,
            lora={"r": 2, "dropout": 0.3},
        )
    assert seen == {"adapter": 0.3, "attention": 0.0}
