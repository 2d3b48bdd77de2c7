"""From settings to the parts of a training: models, prompts, optimisers, the updater."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlaif.config.ppo import PpoConfig
from rlaif.errors import InputError
from rlaif.training.models import LoraSettings, load_policy, load_scorer
from rlaif.training.ppo.actor_critic import ActorCritic, SeparateCritic, SharedBase, value_head
from rlaif.training.ppo.experience import Discount
from rlaif.training.ppo.optimiser import Optimiser, Schedule
from rlaif.training.ppo.prompts import AnyPrompt, PromptSet, read_prompt_set, stop_tokens
from rlaif.training.ppo.trainer import Practice
from rlaif.training.ppo.update import Objective, Split, Updater
from rlaif.training.ppo.world import World

_SMALL = 500_000_000
"""Parameters up to which bf16 log-probabilities are too coarse: ratios explode."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What is loaded before anything is written."""

    models: ActorCritic
    tokenizer: Any
    """The policy's, with a chat template."""

    prompts: PromptSet
    stop_ids: tuple[int, ...]
    pad_id: int


def build_parts(model: str, prompts: Sequence[AnyPrompt], config: PpoConfig, world: World) -> Parts:
    """Load policy and critic and tokenise the prompts.

    Raises:
        InputError: A model, tokenizer, critic or set of prompts that cannot be used.
    """
    models, tokenizer = _build_models(model, config, world)
    limit = getattr(models.policy.config.get_text_config(), "max_position_embeddings", None)
    asked = read_prompt_set(
        prompts,
        tokenizer,
        context=limit,
        max_new_tokens=config.max_new_tokens,
        max_prompt_tokens=config.max_prompt_tokens,
    )
    stop_ids = stop_tokens(models.policy, tokenizer)
    return Parts(models, tokenizer, asked, stop_ids, int(tokenizer.pad_token_id))


def _build_models(model: str, config: PpoConfig, world: World) -> tuple[ActorCritic, Any]:
    torch.manual_seed(config.seed)  # new adapters and heads are drawn: alike in every process
    lora = None if config.lora is None else _lora_settings(config)
    policy, tokenizer = load_policy(
        model,
        dtype="float32" if lora is None else config.dtype,
        revision=config.revision,
        lora=lora,
        chat_template=config.chat_template,
    )
    options: dict[str, Any] = {
        "temperature": config.temperature,
        "reference": config.beta > 0,
        "checkpointing": config.gradient_checkpointing,
        "mixed": _mixed(config, policy, world),
    }
    if lora is None or not lora.quantize:
        policy.to(world.device)  # type: ignore[arg-type]
    kind = config.critic
    if kind == "shared" or (kind == "auto" and lora is not None):
        return SharedBase(policy, **options), tokenizer
    critic = _load_critic(model, config, tokenizer)
    critic.to(world.device)
    return SeparateCritic(policy, critic, **options), tokenizer


def build_updater(parts: Parts, config: PpoConfig, world: World) -> Updater:
    """Return the updater with both optimisers."""
    split = Split(
        rollout_size=config.rollout_size,
        minibatch_size=config.minibatch_size,
        epochs=config.epochs,
        micro_tokens=config.micro_tokens,
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


def build_practice(parts: Parts, config: PpoConfig) -> Practice:
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
        micro_tokens=config.micro_tokens,
        normalise_scores=config.normalise_scores,
        score_clip=config.score_clip,
        missing_end_penalty=config.missing_end_penalty,
        whiten_rewards=config.whiten_rewards,
        scorer_timeout=config.scorer_timeout,
    )


def _load_critic(model: str, config: PpoConfig, tokenizer: Any) -> Any:
    """Load the value model; it reads the policy's tokens, so it must know the same ones."""
    own = config.critic not in ("auto", "policy")
    critic, critic_tokenizer = load_scorer(
        config.critic if own else model,
        dtype="float32",
        revision=None if own else config.revision,
        chat_template=config.chat_template,
    )
    if own and critic_tokenizer.get_vocab() != tokenizer.get_vocab():
        raise InputError(
            f"critic {config.critic}: it reads the policy's tokens, but its vocabulary is another",
            hint="start the critic from the policy (critic: policy); as a scorer a reward model "
            "may have any tokenizer",
        )
    if not own:
        # Zero, so that the first advantages are the rewards themselves and not a random head's.
        for parameter in value_head(critic).parameters():
            torch.nn.init.zeros_(parameter)
    return critic


def _lora_settings(config: PpoConfig) -> LoraSettings:
    assert config.lora is not None
    settings = config.lora.model_dump()
    if settings.pop("dropout") > 0:
        raise InputError(
            "lora.dropout must be 0 for PPO: with dropout no log-probability comes out twice"
        )
    return LoraSettings(**settings)


def _mixed(config: PpoConfig, policy: Any, world: World) -> bool:
    if config.dtype != "auto":
        return config.dtype == "bfloat16"
    return world.device.type == "cuda" and policy.num_parameters() > _SMALL
