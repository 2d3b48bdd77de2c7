import dataclasses
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlaif.config.load import load_config
from rlaif.config.online import RlooConfig
from rlaif.config.ppo import PpoConfig
from rlaif.errors import ConfigError, EngineMissing
from rlaif.training import train_rloo
from rlaif.training.harness import online
from rlaif.training.harness.metrics import read_metrics
from rlaif.training.ppo import build
from rlaif.training.ppo.experience import with_importance
from rlaif.training.ppo.losses import compute_importance
from rlaif.training.ppo.sampling import Sampled, cut, sample_responses
from rlaif.training.ppo.train import train_ppo
from rlaif.training.ppo.trainer import Models
from rlaif.training.ppo.vllm import generation_class, plain_weights
from tests.training.ppo.small import PROMPTS, count_word, make_policy, save_policy
from tests.training.ppo.test_actor_critic import make_shared, perturb
from tests.training.ppo.test_update import make_experience, make_models, make_updater

# PEFT 0.21 asks transformers 5.23 by the old name
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")

HAS_VLLM = importlib.util.find_spec("vllm") is not None
SMALL: dict[str, Any] = {
    "rollouts": 2,
    "rollout_size": 8,
    "minibatch_size": 8,
    "max_new_tokens": 6,
    "show_samples": 0,
}


def test_weights_are_cut_ratios_and_one_where_nothing_is_known():
    logprobs = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]])
    drawn = [[-1.0 - math.log(2), -1.0 - math.log(10), -1.0 + math.log(10)], []]
    weights = compute_importance(logprobs, drawn, (0.5, 5.0))
    assert weights.tolist() == [pytest.approx([2.0, 5.0, 0.5]), [1.0, 1.0, 1.0]]


def test_a_log_probability_that_is_missing_makes_the_response_unknown():
    whole = cut([4, 5, 1, 9], [-1.0, -2.0, -3.0, None], [], frozenset({1}))
    assert whole == Sampled([4, 5, 1], True, [-1.0, -2.0, -3.0], [])
    assert cut([4, 5], [-1.0, None], [], frozenset({1})) == Sampled([4, 5], False, [], [])


def test_importance_multiplies_the_policys_gradient_and_not_the_critics():
    def gradient(weight: float) -> tuple[torch.Tensor, float]:
        models = make_models()
        experience = make_experience(models)
        same = [[x - math.log(weight) for x in row] for row in experience.old_logprobs_BT.tolist()]
        drawn = [
            dataclasses.replace(s, logprobs=row[: len(s.tokens)])
            for s, row in zip(experience.drawn.sampled, same, strict=True)
        ]
        rollout = dataclasses.replace(experience.drawn, sampled=drawn)
        experience = dataclasses.replace(experience, drawn=rollout)
        updater = make_updater(models)
        kept: list[torch.Tensor] = []
        first: Any = next(iter(updater.policy.parameters.values()))
        updater.policy.clear = lambda: kept.append(first.grad.clone())  # type: ignore[method-assign]
        found = updater.run(with_importance(experience, (0.1, 10.0)), rollout=0)
        return kept[0], found["value/grad_norm"]

    plain, plain_value = gradient(1.0)
    doubled, doubled_value = gradient(2.0)
    assert torch.allclose(doubled, 2 * plain, atol=1e-6)
    assert doubled_value == pytest.approx(plain_value, rel=1e-5)


def test_the_weights_that_are_pushed_are_those_of_the_merged_policy_and_the_base_stays():
    shared = make_shared()
    perturb(shared.policy_parameters())
    perturb(shared.critic_parameters())
    before = {n: p.clone() for n, p in shared.policy.named_parameters() if "base_layer" in n}
    pushed = {name: weight.clone() for name, weight in plain_weights(shared.policy)}
    after = dict(shared.policy.named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)
    shared.policy.delete_adapter("value")
    merged = dict(shared.policy.merge_and_unload().named_parameters())
    assert pushed.keys() == merged.keys()
    assert all(torch.allclose(pushed[name], merged[name], atol=1e-6) for name in merged)


def test_without_adapters_the_weights_are_pushed_as_they_are():
    policy = make_policy()
    pushed, own = dict(plain_weights(policy)), dict(policy.named_parameters())
    assert pushed.keys() == own.keys()
    assert all(pushed[name] is own[name] for name in own)


def test_trls_holder_of_the_engine_pushes_them():
    loaded: dict[str, torch.Tensor] = {}
    model = SimpleNamespace(load_weights=lambda pairs: loaded.update(pairs))
    runner = SimpleNamespace(model_runner=SimpleNamespace(model=model))
    executor = SimpleNamespace(model_executor=SimpleNamespace(driver_worker=runner))
    holder: Any = object.__new__(generation_class())  # __init__ would start vLLM
    holder.mode, holder.enable_sleep_mode, holder.accelerator = "colocate", False, None
    holder.llm = SimpleNamespace(llm_engine=executor, reset_prefix_cache=lambda: None)
    holder.model = make_shared().policy
    perturb(dict(holder.model.named_parameters()))
    holder.sync_weights()
    expected = dict(plain_weights(holder.model))
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


class Elsewhere:
    """Draws with transformers and claims other log-probabilities, as vLLM's rounding does."""

    importance = (0.5, 5.0)

    def __init__(self, models: Models, gap: float) -> None:
        self._models, self._gap = models, gap

    def draw(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[Sampled]:
        models = self._models
        drawn = sample_responses(
            models.actor_critic.policy,
            prompts,
            seeds,
            stop_ids=models.stop_ids,
            pad_id=models.pad_id,
            max_new_tokens=6,
        )
        return [
            Sampled(one.tokens, one.ended, [x - self._gap for x in one.logprobs]) for one in drawn
        ]


def test_a_rollout_drawn_elsewhere_is_measured_again_and_corrected(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(online, "need_vllm", lambda: None)
    monkeypatch.setattr(build, "_open_vllm", lambda models, *_: Elsewhere(models, 0.1))
    train_ppo(
        prompts=PROMPTS,
        model=save_policy(tmp_path / "m"),
        scorer=count_word,
        out=tmp_path / "out",
        critic_warmup=1,
        vllm={"mode": "colocate"},
        **SMALL,
    )
    rows = read_metrics(tmp_path / "out")
    assert rows[0]["objective/kl"] == 0.0
    assert rows[0]["objective/sampling_gap"] == pytest.approx(0.1, abs=1e-4)
    assert rows[0]["objective/importance"] == pytest.approx(math.exp(0.1), abs=1e-4)
    assert "objective/entropy" not in rows[0]  # not known, and not 0
    assert rows[1]["policy/ratio"] == pytest.approx(1.0, abs=1e-2)


@pytest.mark.skipif(HAS_VLLM, reason="vLLM is installed")
@pytest.mark.parametrize("train", [train_ppo, train_rloo])
def test_without_vllm_there_is_one_message_before_anything_starts(train, tmp_path: Path):
    with pytest.raises(EngineMissing, match="vllm is named in the training file"):
        train(
            prompts=PROMPTS,
            model=str(save_policy(tmp_path / "m")),
            scorer=count_word,
            out=tmp_path / "out",
            vllm={"mode": "colocate"},
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "said", "message"),
    [
        (PpoConfig, {"vllm": {"mode": "server"}}, "needs base_url"),
        (PpoConfig, {"vllm": {"base_url": "http://127.0.0.1:8000"}}, "needs base_url"),
        (PpoConfig, {"vllm": {"importance": [2.0, 5.0]}}, "low ≤ 1 ≤ high"),
        (PpoConfig, {"vllm": {}, "lora": {"quantize": True}}, "4-bit base"),
        (RlooConfig, {"vllm": {"importance": [0.5, 2.0]}}, "only PPO reads it"),
    ],
)
def test_settings_of_vllm_that_do_not_fit_are_refused(kind, said, message: str):
    with pytest.raises(ConfigError, match=message):
        load_config(kind, {"model": "m", "out": "o", **said})
