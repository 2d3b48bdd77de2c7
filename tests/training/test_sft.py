import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlaif.config.train import SftConfig
from rlaif.errors import TrainingError
from rlaif.training.data.tokens import tokenise_demonstrations
from rlaif.training.harness import trl
from rlaif.training.harness.callback import TrlCallback
from rlaif.training.harness.folder import open_training
from rlaif.training.harness.inputs import Inputs
from rlaif.training.harness.recipe import quiet_libraries
from rlaif.training.harness.rows import Rows
from rlaif.training.models import load_policy
from rlaif.training.sft import SFT, train_sft
from tests.training.tiny import COLOURS, assistant, make_tiny, user


def demonstrations(repeat: int = 1) -> Dataset:
    rows = [
        {
            "prompt": user(f"say {colour}"),
            "completion": assistant(f"good {colour}" + " now" * (i % 3)),
        }
        for i, colour in enumerate(COLOURS)
    ]
    return Dataset.from_list(rows * repeat)


def trainer_of(tiny: Path, out: Path, **changes: Any) -> Any:
    settings = SftConfig(model=str(tiny), out=out, **changes)
    policy, tokenizer = load_policy(str(tiny))
    tokens = tokenise_demonstrations(demonstrations(), tokenizer, max_length=settings.max_length)
    folder = open_training(out, "sft", {})
    with quiet_libraries():
        rows = Rows(tokens, None, demonstrations(), lambda _: tokens)
        loop: Any = SFT.build(settings, folder, policy, Inputs(rows, tokenizer, {}))
    folder.close()
    return loop.trainer


def loss_of(trainer: Any, rows: list[dict[str, Any]] | None = None) -> torch.Tensor:
    batch = trainer.data_collator(rows or [dict(row) for row in trainer.train_dataset])
    loss: torch.Tensor = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))
    return loss


def brute_force(trainer: Any) -> torch.Tensor:
    """Mean −log π over response tokens, one demonstration at a time, from full logits."""
    tokenizer, total, count = trainer.processing_class, torch.zeros(()), 0
    for row in demonstrations():
        prompt = tokenizer.apply_chat_template(
            row["prompt"], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=True)[
            "input_ids"
        ]
        logprobs = trainer.model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
        for place in range(len(prompt), len(whole)):
            total = total - logprobs[place - 1, whole[place]]
            count += 1
    return total / count


def test_only_responses_are_learned(tiny, tmp_path):
    trainer = trainer_of(tiny, tmp_path / "out")
    assert trainer._sparse
    loss = loss_of(trainer)
    loss.backward()  # type: ignore[no-untyped-call]
    found = [parameter.grad.clone() for parameter in trainer.model.parameters()]
    trainer.model.zero_grad()
    expected = brute_force(trainer)
    expected.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for mine, parameter in zip(found, trainer.model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-3, atol=1e-6)


def test_trls_own_head_gives_the_same_loss(tiny, tmp_path):
    trainer = trainer_of(tiny, tmp_path / "out")
    sparse = loss_of(trainer).item()
    trainer._sparse = False
    assert loss_of(trainer).item() == pytest.approx(sparse, rel=1e-5)


def test_packed_demonstrations_do_not_see_each_other(tiny, tmp_path):
    apart = loss_of(trainer_of(tiny, tmp_path / "apart")).item()
    packed = trainer_of(tiny, tmp_path / "packed", packing=True, max_length=40)
    assert len(packed.train_dataset) < len(demonstrations())
    assert loss_of(packed).item() == pytest.approx(apart, rel=1e-5)


def test_a_base_model_becomes_a_chat_model_that_stops(tmp_path):
    base = make_tiny(tmp_path / "base", template=False)
    result = train_sft(
        dataset=demonstrations(8),
        model=base,
        out=tmp_path / "out",
        chat_template="chatml",
        learning_rate=1e-2,
        batch_size=8,
        epochs=12,
    )
    assert result.metrics["loss"] < 0.3 * math.log(34)
    policy: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer.apply_chat_template(
        user("say red"), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    made = policy.generate(**ids, do_sample=False, max_new_tokens=12)[0, ids["input_ids"].size(1) :]
    assert made[-1].item() == tokenizer.eos_token_id
    assert tokenizer.decode(made, skip_special_tokens=True).startswith("good")


def test_every_turn_of_a_conversation_can_be_learned(tiny, tmp_path):
    talk = user("say red") + assistant("good red") + user("say blue") + assistant("good blue")
    data = Dataset.from_list([{"messages": talk}] * 4)
    last = train_sft(dataset=data, model=tiny, out=tmp_path / "last", batch_size=4)
    each = train_sft(dataset=data, model=tiny, out=tmp_path / "each", batch_size=4, turns="all")
    assert (last.steps, each.steps) == (1, 2)


def test_weights_that_are_no_numbers_never_replace_a_checkpoint(tiny, tmp_path, monkeypatch):
    before = TrlCallback.on_pre_optimizer_step

    def poison(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        before(self, args, state, control, **kwargs)
        if state.global_step == 1:  # the loss of this step is still a number
            for parameter in kwargs["model"].parameters():
                parameter.grad.fill_(math.nan)

    monkeypatch.setattr(TrlCallback, "on_pre_optimizer_step", poison)
    settings: dict[str, Any] = {"max_steps": 2, "batch_size": 4, "save_every": 1}
    with pytest.raises(TrainingError, match="step 2: some weights are NaN or infinite"):
        train_sft(dataset=demonstrations(), model=tiny, out=tmp_path / "out", **settings)
    kept = [path.parent.name for path in (tmp_path / "out").rglob("complete.json")]
    assert kept == ["checkpoint-1"]


def test_recomputing_activations_may_change_between_attempts(tiny, tmp_path):
    settings: dict[str, Any] = {"max_steps": 1, "batch_size": 4, "model": tiny}
    train_sft(dataset=demonstrations(), out=tmp_path / "out", **settings)
    again = {**settings, "gradient_checkpointing": True}
    assert train_sft(dataset=demonstrations(), out=tmp_path / "out", **again).already_finished


@pytest.mark.parametrize(("dtype", "autocast"), [("auto", True), ("float32", False)])
def test_fp32_is_computed_in_when_it_is_asked_for(dtype, autocast, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(trl, "device_kind", lambda: "cuda")
    monkeypatch.setattr(trl, "count_parameters", lambda _: 10**9)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    settings = SftConfig(model=str(tiny), out=tmp_path / "out", dtype=dtype)
    folder = open_training(tmp_path / "out", "sft", {})
    arguments = trl.trainer_arguments(settings, folder, None)
    folder.close()
    assert arguments["bf16"] is autocast
    assert arguments["gradient_checkpointing"] is True
