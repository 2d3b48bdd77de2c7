import json
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from rlaif.errors import ConfigError, InputError, RunMismatch, TrainingError
from rlaif.training.harness import save
from rlaif.training.harness.metrics import read_metrics
from rlaif.training.ppo.train import train_ppo
from rlaif.training.ppo.update import Updater
from tests.training.ppo.small import PROMPTS, count_word, save_policy, save_reward_model

QUICK = {
    "rollouts": 3,
    "rollout_size": 8,
    "minibatch_size": 4,
    "max_new_tokens": 8,
    "critic_warmup": 1,
    "learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "show_samples": 0,
}
LORA = {"r": 4, "alpha": 8}
# PEFT 0.21 asks transformers 5.23 by the old name
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")


@pytest.fixture(autouse=True)
def no_picture(monkeypatch, request):
    """Drawing takes longer than the training here; one test is enough to see that it is done."""
    if "generates" not in request.node.name:
        monkeypatch.setattr(save, "draw_curves", lambda *_: False)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_policy(tmp_path_factory.mktemp("model"), pad_is_eos=True)


def train(model: Path, out: Path, scorer=count_word, **changes):
    return train_ppo(prompts=PROMPTS, model=model, scorer=scorer, out=out, **QUICK | changes)


def rows_without_times(out: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if not name.startswith("seconds/")}
        for row in read_metrics(out)
    ]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model.safetensors")


@pytest.mark.parametrize("lora", [None, {"r": 8, "alpha": 32}])
def test_ppo_raises_the_count_of_a_word(model: Path, tmp_path: Path, lora):
    result = train(
        model,
        tmp_path / "out",
        rollouts=12,
        rollout_size=32,
        minibatch_size=16,
        learning_rate=3e-3 if lora is None else 1e-2,
        critic_learning_rate=3e-3,
        kl_target=None,
        beta=0.01,
        missing_end_penalty=0.0,
        lora=lora,
    )
    scores = [row["score/mean"] for row in read_metrics(tmp_path / "out")]
    assert max(scores[:2]) < 0.5
    assert min(scores[-3:]) > 1.5
    assert result.metrics["score/mean"] == scores[-1]
    assert result.metrics["responses"] == 12 * 32


class CrashError(Exception):
    """Stands for a crash."""


@pytest.mark.parametrize("changes", [{}, {"lora": LORA, "kl_target": None}])
def test_a_resumed_training_takes_the_steps_of_an_uninterrupted_one(
    model: Path, tmp_path: Path, changes
):
    changes = changes | {"rollouts": 4}
    train(model, tmp_path / "whole", **changes)
    calls = 0

    def fails_at_the_third(prompts, responses, **columns):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise CrashError
        return count_word(prompts, responses)

    with pytest.raises(TrainingError, match="the scorer failed: CrashError"):
        train(model, tmp_path / "parts", fails_at_the_third, **changes)
    torch.manual_seed(999)  # what a new process starts from is another state of the generators
    result = train(model, tmp_path / "parts", **changes)
    assert result.resumed_from == 2
    assert rows_without_times(tmp_path / "parts") == rows_without_times(tmp_path / "whole")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_the_policy_loads_in_plain_transformers_and_generates(model: Path, tmp_path: Path):
    out = tmp_path / "out"
    train(model, out)
    policy: Any = AutoModelForCausalLM.from_pretrained(out)
    tokenizer: Any = AutoTokenizer.from_pretrained(out)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPTS[0]}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    reply = policy.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert reply.shape[1] > inputs["input_ids"].shape[1]
    before = AutoModelForCausalLM.from_pretrained(model).state_dict()
    assert any(not torch.equal(before[n], t) for n, t in policy.state_dict().items())
    critic = AutoModelForSequenceClassification.from_pretrained(out / "critic")
    assert critic.config.num_labels == 1
    assert critic(torch.tensor([[5, 6]])).logits.abs().sum() > 0
    assert "| score/mean |" in (out / "README.md").read_text()
    assert (out / "curves.png").stat().st_size > 1000
    assert not (out / "checkpoints").exists()


def test_merged_adapters_are_the_policy_and_are_kept_beside_it(model: Path, tmp_path: Path):
    out = tmp_path / "out"
    train(model, out, lora=LORA)
    base, merged = weights(model), weights(out)
    changed = {name for name in base if not torch.allclose(base[name], merged[name])}
    assert changed
    assert all("_proj" in name for name in changed)
    assert (out / "adapter" / "adapter_model.safetensors").exists()
    assert (out / "critic" / "value" / "adapter_model.safetensors").exists()
    assert load_file(out / "critic" / "score.safetensors")["weight"].abs().sum() > 0


def test_a_finished_training_is_not_repeated(model: Path, tmp_path: Path):
    first = train(model, tmp_path / "out")

    def never(prompts, responses, **columns):
        raise AssertionError

    again = train(model, tmp_path / "out", never)
    assert again.already_finished
    assert again.metrics["score/mean"] == first.metrics["score/mean"]


def test_a_folder_with_another_training_is_refused(model: Path, tmp_path: Path):
    train(model, tmp_path / "out")
    with pytest.raises(RunMismatch, match="learning_rate"):
        train(model, tmp_path / "out", learning_rate=1e-5)


def test_what_only_costs_memory_may_change_between_attempts(model: Path, tmp_path: Path):
    train(model, tmp_path / "out")
    assert train(model, tmp_path / "out", micro_tokens=64).already_finished


def test_nothing_depends_on_how_the_work_is_cut_up(model: Path, tmp_path: Path):
    train(model, tmp_path / "a")
    train(model, tmp_path / "b", micro_tokens=30, generation_batch=3)
    a, b = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.allclose(a[name], b[name], atol=1e-5) for name in a)


def bad_scorer(kind: str):
    def score(prompts, responses, **columns):
        match kind:
            case "raises":
                raise ValueError("no such key")
            case "nan":
                return [float("nan")] * len(responses)
            case "short":
                return [0.0]
            case "hangs":
                threading.Event().wait(30)
            case _:
                pass
        return ["high"] * len(responses)

    return score


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("raises", "the scorer failed: ValueError: no such key"),
        ("nan", "score 0 is nan"),
        ("short", "returned 1 scores for 8 responses"),
        ("hangs", "has not answered for 0.2 seconds"),
        ("words", "score 0 is 'high', which is not a number"),
    ],
)
def test_a_bad_scorer_stops_with_one_message_after_what_was_reached_is_saved(
    model: Path, tmp_path: Path, kind: str, message: str
):
    calls = 0

    def bad_from_the_second_on(prompts, responses, **columns):
        nonlocal calls
        calls += 1
        scorer = count_word if calls == 1 else bad_scorer(kind)
        return scorer(prompts, responses, **columns)

    timeout = 0.2 if kind == "hangs" else 60.0
    with pytest.raises(TrainingError, match=re.escape(message)):
        train(model, tmp_path / "out", bad_from_the_second_on, scorer_timeout=timeout)
    assert (tmp_path / "out" / "checkpoints" / "checkpoint-1" / "complete.json").exists()
    assert train(model, tmp_path / "out").resumed_from == 1


def test_unscored_responses_are_counted_and_not_learned_from(model: Path, tmp_path: Path):
    def half(prompts, responses, **columns):
        return [None if i % 2 else score for i, score in enumerate(count_word(prompts, responses))]

    result = train(model, tmp_path / "out", half)
    assert result.metrics["unscored"] == 12
    assert result.metrics["score/unscored"] == 0.5


def test_a_rollout_without_any_score_stops_the_training(model: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match="none of the 8 responses"):
        train(model, tmp_path / "out", lambda _, responses, **__: [None] * len(responses))


async def test_an_async_scorer_works_and_sees_conversations_and_columns(
    model: Path, tmp_path: Path
):
    seen = []

    async def score(prompts, responses, **columns):
        seen.append((prompts, columns))
        return count_word(prompts, responses)

    train(model, tmp_path / "out", score, rollouts=2)
    prompts, columns = seen[0]
    assert prompts[0][-1]["role"] == "user"
    assert prompts[0][-1]["content"] in PROMPTS
    assert len(columns["prompt_id"]) == len(columns["tags"]) == 8


def test_ctrl_c_ends_the_rollout_saves_and_is_resumed(model: Path, tmp_path: Path):
    calls = 0

    def pressed_in_the_second(prompts, responses, **columns):
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return count_word(prompts, responses)

    with pytest.raises(KeyboardInterrupt):
        train(model, tmp_path / "out", pressed_in_the_second)
    assert [row["step"] for row in read_metrics(tmp_path / "out")] == [1, 2]
    assert train(model, tmp_path / "out").resumed_from == 2
    calls = 1
    result = train(model, tmp_path / "last", pressed_in_the_second, rollouts=1, critic_warmup=0)
    assert result.steps == 1  # there was nothing left to stop


def test_running_out_of_memory_is_said_and_saved(model: Path, tmp_path: Path, monkeypatch):
    run = Updater.run

    def fails_in_the_second(self, experience, *, rollout):
        if rollout == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return run(self, experience, rollout=rollout)

    monkeypatch.setattr(Updater, "run", fails_in_the_second)
    with pytest.raises(TrainingError, match="out of memory at step 2") as caught:
        train(model, tmp_path / "out")
    assert "micro_tokens" in caught.value.hint
    monkeypatch.undo()
    assert train(model, tmp_path / "out").resumed_from == 1
    assert "interrupted and made again" in (tmp_path / "out" / "README.md").read_text()


def test_an_interrupted_update_leaves_the_checkpoint_of_its_rollout_alone(
    model: Path, tmp_path: Path, monkeypatch
):
    run = Updater.run

    def fails_in_the_second(self, experience, *, rollout):
        outcome = run(self, experience, rollout=rollout)
        if rollout == 1:
            raise RuntimeError("CUDA error: out of memory")
        return outcome

    train(model, tmp_path / "whole")
    monkeypatch.setattr(Updater, "run", fails_in_the_second)
    with pytest.raises(TrainingError, match="out of memory at step 2"):
        train(model, tmp_path / "out", save_every=1)
    monkeypatch.undo()
    assert train(model, tmp_path / "out", save_every=1).resumed_from == 1
    assert "interrupted and made again" not in (tmp_path / "out" / "README.md").read_text()
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "out"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_weights_that_are_no_numbers_never_replace_a_checkpoint(model: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match="NaN or infinite"):
        train(model, tmp_path / "out", learning_rate=1e38, save_every=1)
    kept = tmp_path / "out" / "checkpoints" / "checkpoint-1"
    assert not (tmp_path / "out" / "checkpoints" / "checkpoint-2").exists()
    assert (kept / "complete.json").exists()


def test_the_reward_model_can_be_the_critics_start(model: Path, tmp_path: Path):
    from tests.training.tiny import make_tokenizer

    reward_model = save_reward_model(tmp_path / "rm", tokenizer=make_tokenizer(pad_is_eos=True))
    result = train(model, tmp_path / "out", critic=str(reward_model))
    assert result.steps == 3


def test_a_critic_that_cannot_read_the_policys_tokens_is_refused(model: Path, tmp_path: Path):
    reward_model = save_reward_model(tmp_path / "rm")  # one token more
    with pytest.raises(InputError, match="not all of them under the same numbers"):
        train(model, tmp_path / "out", critic=str(reward_model))
    assert not (tmp_path / "out").exists()


def test_a_critic_may_know_a_token_more_than_the_policy(model: Path, tmp_path: Path):
    from tests.training.tiny import make_tokenizer

    tokenizer = make_tokenizer(pad_is_eos=True)
    tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    reward_model = save_reward_model(tmp_path / "rm", tokenizer=tokenizer)
    assert train(model, tmp_path / "out", critic=str(reward_model)).steps == 3


def test_a_critic_that_is_not_a_reward_model_is_refused(model: Path, tmp_path: Path):
    other = save_policy(tmp_path / "policy", pad_is_eos=True)
    with pytest.raises(InputError, match="not a reward model: it has no head that scores"):
        train(model, tmp_path / "out", critic=str(other))
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_without_chat_template_is_one_clear_message(tmp_path: Path):
    model = save_policy(tmp_path / "m", template=False)
    with pytest.raises(InputError, match="no chat template"):
        train(model, tmp_path / "out")
    assert train(model, tmp_path / "out", chat_template="chatml").steps == 3


def test_settings_are_checked_before_anything_is_loaded(tmp_path: Path):
    with pytest.raises(ConfigError, match="unknown key 'learning_rat'"):
        train(tmp_path / "nowhere", tmp_path / "out", learning_rat=1.0)
    with pytest.raises(ConfigError, match="not a multiple"):
        train(tmp_path / "nowhere", tmp_path / "out", rollout_size=6)
    with pytest.raises(ConfigError, match=r"kl_gain.*less than 5"):
        train(tmp_path / "nowhere", tmp_path / "out", kl_gain=5)
    with pytest.raises(ConfigError, match=r"lora\.dropout must be 0"):
        train(tmp_path / "nowhere", tmp_path / "out", lora=LORA | {"dropout": 0.1})


def test_samples_and_metrics_are_kept(model: Path, tmp_path: Path):
    train(model, tmp_path / "out", show_samples=2, show_every=2)
    lines = (tmp_path / "out" / "samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 2]
    rows = read_metrics(tmp_path / "out")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[0]["objective/kl"] == 0.0
    assert "policy/loss" not in rows[0]  # the critic's warm-up
    assert rows[2]["policy/grad_norm"] > 0
    assert max(abs(row["objective/sampling_gap"]) for row in rows) < 1e-5
