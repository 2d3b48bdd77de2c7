"""RLOO and GRPO through TRL, with the scorers of PPO and its way of resuming.

Both need no critic: the other responses to the same prompt are the baseline. TRL computes KL its
own way: RLOO subtracts it from the score of a whole response, GRPO adds it to the loss.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from datasets import Dataset
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer

from rlaif.config.online import GroupConfig, GrpoConfig, RlooConfig, VllmConfig
from rlaif.errors import InputError
from rlaif.training.data.prompts import AnyPrompt
from rlaif.training.data.sampler import PassSampler
from rlaif.training.harness.folder import TrainingFolder, TrainResult
from rlaif.training.harness.inputs import Inputs, Said, read_settings
from rlaif.training.harness.online import ONE_SCORER, OnlineData, OnlineSource, read_online
from rlaif.training.harness.progress import Style
from rlaif.training.harness.recipe import Recipe, train
from rlaif.training.harness.trl import Samples, TrlLoop, common_arguments
from rlaif.training.models import computes_in_bf16, load_policy, model_arguments
from rlaif.training.scorers import Scorer, as_reward_func

ConfigT = TypeVar("ConfigT", bound=GroupConfig)

_CURVES = ("reward", "kl", "entropy", "completions/mean_length", "loss", "grad_norm")


def train_rloo(
    config: Said = None,
    *,
    scorer: Scorer,
    prompts: Sequence[AnyPrompt] | None = None,
    force: bool = False,
    style: Style = "quiet",
    **said: Any,
) -> TrainResult:
    """Train a policy with RLOO. Arguments, resuming and errors are those of `train_ppo`."""
    settings = read_settings(RlooConfig, config, said)
    return train(RLOO, settings, OnlineSource(scorer, prompts), force=force, style=style)


def train_grpo(
    config: Said = None,
    *,
    scorer: Scorer,
    prompts: Sequence[AnyPrompt] | None = None,
    force: bool = False,
    style: Style = "quiet",
    **said: Any,
) -> TrainResult:
    """Train a policy with GRPO. Arguments, resuming and errors are those of `train_ppo`."""
    settings = read_settings(GrpoConfig, config, said)
    return train(GRPO, settings, OnlineSource(scorer, prompts), force=force, style=style)


class _RlooTrainer(RLOOTrainer):
    """TRL's RLOOTrainer, version 1.16, with passes over the prompts that can be resumed."""

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return PassSampler(super()._get_train_sampler(dataset), seed=self.args.seed)


class _GrpoTrainer(GRPOTrainer):
    """TRL's GRPOTrainer, version 1.16, with passes over the prompts that can be resumed."""

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return PassSampler(super()._get_train_sampler(dataset), seed=self.args.seed)


def _rloo(settings: RlooConfig, arguments: dict[str, Any], parts: dict[str, Any]) -> Any:
    clip = settings.score_clip
    return _RlooTrainer(
        args=RLOOConfig(
            **arguments,
            normalize_advantages=settings.normalise_advantages,
            reward_clip_range=None if clip is None else (-clip, clip),
        ),
        **parts,
    )


def _grpo(settings: GrpoConfig, arguments: dict[str, Any], parts: dict[str, Any]) -> Any:
    return _GrpoTrainer(
        args=GRPOConfig(**arguments, loss_type=settings.loss, scale_rewards=settings.scale_scores),
        **parts,
    )


def _read(settings: GroupConfig, source: OnlineSource) -> Inputs[OnlineData]:
    inputs = read_online(settings, source, tools=False)  # TRL renders prompts without them
    prompts = inputs.data.prompts.prompts
    needed = settings.rollout_size // settings.group_size
    if len(prompts) < needed:
        raise InputError(
            f"a rollout needs {needed} different prompts, but only {len(prompts)} are given",
            hint="lower rollout_size, raise group_size or give more prompts",
        )
    return inputs


def _load(settings: GroupConfig) -> Any:
    arguments = model_arguments(settings)
    trained = {} if settings.lora is not None else {"dtype": "float32"}
    return load_policy(**{**arguments, **trained})[0]


def _recipe(
    kind: str, build: Callable[[ConfigT, dict[str, Any], dict[str, Any]], Any]
) -> Recipe[ConfigT, OnlineSource, OnlineData]:
    def loop(
        settings: ConfigT, folder: TrainingFolder, policy: Any, inputs: Inputs[OnlineData]
    ) -> TrlLoop:
        rows = [
            {"prompt": list(p.messages), "prompt_id": p.id, "tags": list(p.tags)}
            for p in inputs.data.prompts.prompts
        ]
        reward = as_reward_func(inputs.data.scorer, timeout=settings.scorer_timeout)
        parts = {
            "model": policy,
            "reward_funcs": reward,
            "train_dataset": Dataset.from_list(rows),
            "processing_class": inputs.tokenizer,
        }
        in_bf16 = computes_in_bf16(settings.dtype, policy)
        trainer = build(settings, _arguments(settings, folder, bf16=in_bf16), parts)
        samples = Samples(
            [row["prompt"] for row in rows[: settings.show_samples]],
            settings.show_every * settings.steps,
            settings.max_new_tokens,
        )
        return TrlLoop(trainer, folder, samples=samples, stop_every=settings.steps)

    return Recipe(kind, _read, _load, loop, curves=_CURVES, caveats=ONE_SCORER)


RLOO = _recipe("rloo", _rloo)
GRPO = _recipe("grpo", _grpo)


def _arguments(settings: GroupConfig, folder: TrainingFolder, *, bf16: bool) -> dict[str, Any]:
    """Return what both of TRL's configs are built with."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    per_step = settings.micro_batch * processes
    if settings.minibatch_size % per_step:
        raise InputError(
            f"minibatch_size {settings.minibatch_size} is not a multiple of micro_batch times "
            f"{processes} processes"
        )
    return {
        **common_arguments(settings, folder),
        "learning_rate": settings.rate,
        "max_steps": settings.rollouts * settings.steps,
        "per_device_train_batch_size": settings.micro_batch,
        "gradient_accumulation_steps": settings.minibatch_size // per_step,
        "generation_batch_size": settings.rollout_size,
        "num_generations": settings.group_size,
        "num_iterations": settings.epochs,
        "max_completion_length": settings.max_new_tokens,
        # The scored distribution is the sampled one: temperature and nothing else.
        "temperature": settings.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "repetition_penalty": 1.0,
        "beta": settings.beta,
        "epsilon": settings.clip_low,
        "epsilon_high": settings.clip_high,
        "mask_truncated_completions": settings.skip_cut_off,
        "disable_dropout": True,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "bf16": bf16,
        "logging_steps": 1,
        "save_steps": settings.save_every * settings.steps,
        **_vllm_arguments(settings.vllm),
    }


def _vllm_arguments(settings: VllmConfig | None) -> dict[str, Any]:
    if settings is None:
        return {}
    place: dict[str, Any] = {"vllm_gpu_memory_utilization": settings.gpu_memory_utilization}
    if settings.mode == "server":
        place = {"vllm_server_base_url": settings.base_url}
    return {"use_vllm": True, "vllm_mode": settings.mode, **place}
