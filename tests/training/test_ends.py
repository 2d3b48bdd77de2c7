"""Policies stop: what the template puts after a turn is taught, saved, and ends every reply."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM

from rlaif.engines.local.chat import Chat
from rlaif.errors import InputError
from rlaif.training.dpo.train import train_dpo
from rlaif.training.harness.progress import sample_replies
from rlaif.training.models import load_policy
from rlaif.training.online import train_grpo
from rlaif.training.ppo.train import train_ppo
from rlaif.training.reward.train import train_reward
from rlaif.training.reward_model_scorer import reward_model_scorer
from rlaif.training.sft import train_sft
from tests.training.ppo.small import make_config
from tests.training.test_chat import CHATML, with_tokens
from tests.training.tiny import COLOURS, assistant, colour_pairs, make_tiny, user

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing")

ONLINE: dict[str, Any] = {
    "rollouts": 1,
    "rollout_size": 8,
    "minibatch_size": 8,
    "max_new_tokens": 16,
    "show_samples": 0,
}


def save_base(folder: Path, template: str = CHATML, **generation: Any) -> Path:
    """A base model that ends sequences with </s>, and whose template ends turns otherwise."""
    import torch

    tokenizer = with_tokens(template)
    torch.manual_seed(0)
    model = LlamaForCausalLM(make_config(tokenizer, tie_word_embeddings=False))
    model.generation_config = GenerationConfig(eos_token_id=2, **generation)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def demonstrations() -> Dataset:
    return Dataset.from_list(
        [{"prompt": user(f"say {c}"), "completion": assistant(f"good {c}")} for c in COLOURS] * 4
    )


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that has learned to answer and to end its turn."""
    folder = tmp_path_factory.mktemp("ends")
    base = save_base(folder / "base", repetition_penalty=3.0)
    out = folder / "taught"
    train_sft(dataset=demonstrations(), model=base, out=out, learning_rate=1e-2, epochs=4)
    return out


def test_what_ends_a_turn_is_saved_beside_the_end_of_sequence(taught: Path):
    tokenizer: Any = AutoTokenizer.from_pretrained(taught)
    ends = GenerationConfig.from_pretrained(taught).eos_token_id
    assert ends == [2, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert Chat(tokenizer).turn_ends() == set(ends)


def test_plain_transformers_stops_where_the_policy_ends_its_turn(taught: Path):
    tokenizer: Any = AutoTokenizer.from_pretrained(taught)
    model: Any = AutoModelForCausalLM.from_pretrained(taught)
    rendered = tokenizer.apply_chat_template(
        user("say red"), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    model.generation_config.repetition_penalty = 1.0
    made = model.generate(**rendered, max_new_tokens=16, do_sample=False)
    said = tokenizer.convert_ids_to_tokens(made[0, rendered["input_ids"].shape[1] :].tolist())
    assert said == ["good", "red", "<|im_end|>"]


@pytest.mark.parametrize("prompt", ["say red", user("say red")])
def test_samples_are_asked_in_the_template_and_drawn_without_penalties(prompt: Any, taught: Path):
    policy, tokenizer = load_policy(str(taught))
    (sample,) = sample_replies(policy, tokenizer, [prompt], max_tokens=16)
    assert (sample.prompt, sample.response) == ("say red", "good red")
    assert policy.generation_config.repetition_penalty == 3.0  # the checkpoint's own is kept


def test_rollouts_end_where_the_policy_ends_its_turn(taught: Path, tmp_path: Path):
    def score(_: Any, responses: list[str], **columns: Any) -> list[float]:
        return [float(len(text.split())) for text in responses]

    prompts = [f"say {c}" for c in COLOURS]
    common: dict[str, Any] = {"prompts": prompts, "model": taught, "scorer": score, **ONLINE}
    ppo = train_ppo(out=tmp_path / "ppo", **common, critic_warmup=0)
    assert ppo.metrics["response/ended"] == 1.0
    grpo = train_grpo(
        out=tmp_path / "grpo", **common, group_size=4, micro_batch=8, learning_rate=1e-6
    )
    assert grpo.metrics["completions/clipped_ratio"] == 0.0


def test_dpo_keeps_what_ends_a_turn(taught: Path, tmp_path: Path):
    out = tmp_path / "out"
    train_dpo(dataset=colour_pairs(8), model=taught, out=out, lora={"r": 2}, max_steps=1)
    assert len(GenerationConfig.from_pretrained(out).eos_token_id) == 2


@pytest.mark.parametrize("kind", ["sft", "dpo", "ppo"])
def test_a_template_that_ends_no_turn_is_refused_before_anything_starts(kind: str, tmp_path: Path):
    base = save_base(tmp_path / "base", "{% for m in messages %}{{ m['content'] }}{% endfor %}")
    out = tmp_path / "out"
    start: dict[str, Any] = {
        "sft": lambda: train_sft(dataset=demonstrations(), model=base, out=out),
        "dpo": lambda: train_dpo(dataset=colour_pairs(8), model=base, out=out),
        "ppo": lambda: train_ppo(prompts=["say"], model=base, out=out, scorer=lambda *_: [0.0]),
    }
    with pytest.raises(InputError, match="nothing would teach the policy to stop"):
        start[kind]()
    assert not out.exists()


@pytest.mark.parametrize("own", [True, False], ids=["own-template", "no-template"])
def test_a_reward_model_of_bare_text_scores_what_it_was_trained_on(own: bool, tmp_path: Path):
    base = make_tiny(tmp_path / "base", template=own)
    pairs = [
        {"prompt": f"say {c} ", "chosen": f"good {c}", "rejected": f"bad {c}"} for c in COLOURS
    ] * 2
    settings: dict[str, Any] = {"learning_rate": 1e-2, "epochs": 6, "held_out": 0.0}
    train_reward(
        dataset=Dataset.from_list(pairs),
        model=base,
        out=tmp_path / "rm",
        chat_template="none",
        **settings,
    )
    prompts: Any = [user(row["prompt"]) for row in pairs]
    for template in (None, "none"):
        score: Any = reward_model_scorer(str(tmp_path / "rm"), chat_template=template)
        chosen = score(prompts, [row["chosen"] for row in pairs])
        rejected = score(prompts, [row["rejected"] for row in pairs])
        assert all(a > b + 1 for a, b in zip(chosen, rejected, strict=True))
