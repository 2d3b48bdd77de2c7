import math
from typing import Any

import pytest
import torch

from rlaif.config.train import LoraSettings
from rlaif.errors import EngineMissing, InputError
from rlaif.training.models import (
    context_length,
    count_parameters,
    identify_model,
    load_policy,
    load_scorer,
    take_device,
)
from tests.training.tiny import make_tiny


def test_a_policy_on_a_cpu_is_fp32_and_trainable(tiny):
    policy, tokenizer = load_policy(str(tiny))
    assert policy.dtype is torch.float32
    assert count_parameters(policy, trainable=True) == count_parameters(policy) > 10_000
    assert policy.config.pad_token_id == tokenizer.pad_token_id


def test_a_frozen_policy_has_no_gradients(tiny):
    policy, _ = load_policy(str(tiny), frozen=True)
    assert count_parameters(policy, trainable=True) == 0
    assert not policy.training


def test_the_dtype_can_be_asked_for(tiny):
    policy, _ = load_policy(str(tiny), dtype="bfloat16")
    assert policy.dtype is torch.bfloat16
    with pytest.raises(InputError, match="dtype 'fp8'"):
        load_policy(str(tiny), dtype="fp8")


def test_adapters_train_little_and_leave_the_base_alone(tiny):
    policy, _ = load_policy(str(tiny), lora=LoraSettings(r=2))
    trained = [name for name, p in policy.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)


def test_adapters_that_fit_nothing_are_refused(tiny):
    with pytest.raises(InputError, match="lora"):
        load_policy(str(tiny), lora=LoraSettings(target_modules=("no_such_layer",)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_qlora_without_a_gpu_is_refused(tiny):
    with pytest.raises(EngineMissing, match="CUDA"):
        load_policy(str(tiny), lora=LoraSettings(quantize=True))


def test_a_folder_without_a_model_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="not a model") as caught:
        load_policy(str(tmp_path))
    assert "\n" not in caught.value.message


def test_a_base_model_needs_a_template_to_become_a_policy(tmp_path):
    folder = make_tiny(tmp_path / "base", template=False)
    with pytest.raises(InputError, match="no chat template"):
        load_policy(str(folder))
    _, tokenizer = load_policy(str(folder), chat_template="chatml")
    assert "im_start" in str(tokenizer.chat_template)


def test_a_new_head_is_drawn_small_and_from_the_seed(tiny):
    torch.manual_seed(3)
    one: Any = load_scorer(str(tiny))[0]
    torch.manual_seed(3)
    other: Any = load_scorer(str(tiny))[0]
    assert torch.equal(one.score.weight, other.score.weight)
    assert one.score.weight.shape == (1, 32)
    assert one.score.weight.std().item() == pytest.approx(1 / math.sqrt(33), rel=0.5)


def test_a_trained_head_is_kept(tiny, tmp_path):
    scorer: Any
    again: Any
    scorer, tokenizer = load_scorer(str(tiny))
    scorer.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, _ = load_scorer(str(tmp_path))
    assert torch.equal(scorer.score.weight, again.score.weight)


def test_a_classifier_of_several_labels_is_refused_as_a_scorer(tiny, tmp_path):
    from transformers import AutoModelForSequenceClassification

    AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=3).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="3 labels"):
        load_scorer(str(tmp_path))


def test_a_scorer_reads_its_score_at_the_last_token_even_when_pad_was_the_end(tmp_path):
    folder = make_tiny(tmp_path / "eos", pad_is_eos=True)
    scorer, tokenizer = load_scorer(str(folder))
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    ids = [5, 6, tokenizer.eos_token_id]
    padded = torch.tensor([[*ids, tokenizer.pad_token_id, tokenizer.pad_token_id]])
    with torch.no_grad():
        alone = scorer(input_ids=torch.tensor([ids])).logits
        among = scorer(input_ids=padded, attention_mask=torch.tensor([[1, 1, 1, 0, 0]])).logits
    torch.testing.assert_close(alone, among)


def test_the_context_is_what_the_model_says(tiny):
    assert context_length(str(tiny)) == 128


def test_a_fingerprint_follows_the_weights_not_the_folder(tiny, tmp_path):
    same, other = make_tiny(tmp_path / "same"), make_tiny(tmp_path / "other", seed=1)
    assert identify_model(str(tiny)) == identify_model(str(same))
    assert identify_model(str(tiny)) != identify_model(str(other))


def test_one_byte_anywhere_in_the_weights_is_another_model(tiny, tmp_path):
    copy = make_tiny(tmp_path / "copy")
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-70_000] ^= 1
    weights.write_bytes(content)
    assert identify_model(str(copy)) != identify_model(str(tiny))


def test_a_model_of_the_hub_is_told_by_name_and_revision():
    names = {identify_model("owner/name", revision=revision) for revision in (None, "main", "v1")}
    assert len(names) == 3


@pytest.mark.parametrize(("rank", "taken"), [("1", [1]), ("7", []), (None, [])])
def test_each_process_of_a_machine_takes_the_gpu_with_its_number(rank, taken, monkeypatch):
    found: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", found.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    take_device()
    assert found == taken
