"""From settings to the parts of a training: models, prompts, optimisers, the updater."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlaif.config.ppo import PpoConfig
from rlaif.errors import InputError
from rlaif.training.harness.metrics import need_trackers
from rlaif.training.harness.settings import lora_settings
from rlaif.training.models import (
    count_parameters,
    device_kind,
    identify_model,
    load_policy,
    load_scorer,
    load_tokenizer,
    need_reward_model,
)
from rlaif.training.ppo.actor_critic import ActorCritic, SeparateCritic, SharedBase, value_head
from rlaif.training.ppo.experience import Discount
from rlaif.training.ppo.optimiser import Optimiser, Schedule
from rlaif.training.ppo.prompts import AnyPrompt, PromptSet, load_prompt_set, stop_tokens
from rlaif.training.ppo.trainer import Practice
from rlaif.training.ppo.update import Objective, Split, Updater
from rlaif.training.ppo.vllm import Lengths, VllmRollouts, need_vllm
from rlaif.training.ppo.world import World

OWN_CRITIC = ("auto", "policy", "shared")
"""Critics that start from the policy."""

_SMALL = 500_000_000
"""Parameters up to which bf16 log-probabilities are too coarse: ratios explode."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a training works with."""

    models: ActorCritic
    tokenizer: Any
    """The policy's, with a chat template."""

    prompts: PromptSet
    stop_ids: tuple[int, ...]
    pad_id: int


def read_inputs(
    model: str, prompts: Sequence[AnyPrompt], config: PpoConfig
) -> tuple[Any, PromptSet]:
    """Load the policy's tokenizer and tokenise the prompts: all that must hold before a start.

    Raises:
        InputError: A tokenizer, a critic or a set of prompts that cannot be used.
        EngineMissing: vLLM is to draw, or a tracker is to be told, and is not installed.
    """
    need_trackers(config.report_to)
    if config.vllm is not None:
        need_vllm()
    tokenizer, asked = load_prompt_set(
        model,
        prompts,
        revision=config.revision,
        chat_template=config.chat_template,
        max_new_tokens=config.max_new_tokens,
        max_prompt_tokens=config.max_prompt_tokens,
    )
    if config.critic not in OWN_CRITIC:
        need_reward_model(config.critic)
        other = load_tokenizer(config.critic, chat_template=config.chat_template)
        if not tokenizer.get_vocab().items() <= other.get_vocab().items():
            raise InputError(
                f"critic {config.critic}: it reads the policy's tokens, but its vocabulary has "
                "not all of them under the same numbers",
                hint="start the critic from the policy (critic: policy); as a scorer a reward "
                "model may have any tokenizer",
            )
    return tokenizer, asked


def critic_plan(config: PpoConfig) -> dict[str, Any]:
    """Return ``critic`` by content, where it starts from a model of its own."""
    own = config.critic in OWN_CRITIC
    return {} if own else {"critic": identify_model(config.critic)}


def build_parts(
    model: str, tokenizer: Any, prompts: PromptSet, config: PpoConfig, world: World
) -> Parts:
    """Load policy, critic and reference.

    Raises:
        InputError: A model that cannot be used.
    """
    torch.manual_seed(config.seed)  # new adapters and heads are drawn: alike in every process
    adapted = config.lora is not None
    policy, _ = load_policy(
        model,
        dtype=config.dtype if adapted else "float32",
        revision=config.revision,
        lora=lora_settings(config.lora),
        chat_template=config.chat_template,
    )
    options: dict[str, Any] = {
        "temperature": config.temperature,
        "reference": config.beta > 0,
        "checkpointing": config.gradient_checkpointing,
        "mixed": computes_in_bf16(config.dtype, policy),
    }
    if not getattr(policy, "is_loaded_in_4bit", False):
        policy.to(world.device)  # type: ignore[arg-type]
    models: ActorCritic
    if config.critic == "shared" or (config.critic == "auto" and adapted):
        models = SharedBase(policy, **options)
    else:
        models = SeparateCritic(policy, _load_critic(model, config).to(world.device), **options)
    stop_ids = stop_tokens(policy, tokenizer)
    return Parts(models, tokenizer, prompts, stop_ids, int(tokenizer.pad_token_id))


def micro_tokens(config: PpoConfig) -> int:
    """Padded tokens of one forward and backward pass: as asked, or what suits the device.

    Activations of a model of 135M parameters take about 2 MB a token.
    """
    return config.micro_tokens or (8192 if device_kind() == "cuda" else 1024)


def build_updater(parts: Parts, config: PpoConfig, world: World) -> Updater:
    """Return the updater with both optimisers."""
    split = Split(
        rollout_size=config.rollout_size,
        minibatch_size=config.minibatch_size,
        epochs=config.epochs,
        micro_tokens=micro_tokens(config),
        pad_id=parts.pad_id,
        seed=config.seed,
    )
    models = parts.models
    clipping = {"weight_decay": config.weight_decay, "max_grad_norm": config.max_grad_norm}
    policy_steps = (config.rollouts - config.critic_warmup) * split.steps
    return Updater(
        models,
        policy=Optimiser(
            models.policy_parameters(),
            schedule=Schedule(config.rate, policy_steps, config.schedule, config.warmup),
            **clipping,
        ),
        critic=Optimiser(
            models.critic_parameters(),
            schedule=Schedule(
                config.critic_learning_rate,
                config.rollouts * split.steps,
                config.schedule,
                config.warmup,
            ),
            **clipping,
        ),
        objective=Objective(
            aggregate=config.aggregate,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            dual_clip=config.dual_clip,
            value_clip=config.value_clip,
            entropy_bonus=config.entropy_bonus,
            max_kl=config.max_kl,
            max_ratio=config.max_ratio,
        ),
        split=split,
        world=world,
    )


def build_practice(parts: Parts, config: PpoConfig, world: World) -> Practice:
    """Return how rollouts are made."""
    critic_lam = config.lam if config.critic_lam is None else config.critic_lam
    return Practice(
        rollouts=config.rollouts,
        size=config.rollout_size,
        per_prompt=config.responses_per_prompt,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        stop_ids=parts.stop_ids,
        pad_id=parts.pad_id,
        seed=config.seed,
        critic_warmup=config.critic_warmup,
        discount=Discount(config.gamma, config.lam, critic_lam),
        generation_batch=config.generation_batch,
        micro_tokens=micro_tokens(config),
        normalise_scores=config.normalise_scores,
        score_clip=config.score_clip,
        missing_end_penalty=config.missing_end_penalty,
        whiten_rewards=config.whiten_rewards,
        scorer_timeout=config.scorer_timeout,
        vllm=_open_vllm(parts, config, world),
        importance=(0.5, 5.0) if config.vllm is None else config.vllm.importance,
    )


def _open_vllm(parts: Parts, config: PpoConfig, world: World) -> VllmRollouts | None:
    if config.vllm is None:
        return None
    if config.vllm.mode == "server" and config.rollout_size % world.size:
        raise InputError(
            f"rollout_size {config.rollout_size} is no multiple of {world.size} processes, and a "
            "vLLM server deals responses out evenly"
        )
    return VllmRollouts(
        parts.models.policy,
        parts.tokenizer,
        config.vllm,
        Lengths(max(map(len, parts.prompts.tokens)), config.max_new_tokens),
        stop_ids=parts.stop_ids,
        temperature=config.temperature,
        world=world,
    )


def computes_in_bf16(dtype: str, policy: Any) -> bool:
    """Whether to compute in bf16 autocast: as asked, or for a big model on a GPU."""
    if dtype != "auto":
        return dtype == "bfloat16"
    return device_kind() == "cuda" and count_parameters(policy) > _SMALL


def _load_critic(model: str, config: PpoConfig) -> Any:
    own = config.critic in OWN_CRITIC
    critic, _ = load_scorer(
        model if own else config.critic,
        dtype="float32",
        revision=config.revision if own else None,
        chat_template=config.chat_template,
        trained=not own,
    )
    if own:
        # Zero, so that the first advantages are the rewards themselves and not a random head's.
        for parameter in value_head(critic).parameters():
            torch.nn.init.zeros_(parameter)
    return critic
