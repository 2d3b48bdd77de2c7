"""From settings to the parts of a training: models, optimisers, the updater, the trainer."""

from typing import Any

import torch

from rlaif.config.ppo import (
    ObjectiveSettings,
    PpoConfig,
    PpoRolloutSettings,
    RewardSettings,
    UpdateSettings,
)
from rlaif.config.train import OptimiserSettings
from rlaif.errors import InputError
from rlaif.training.data.prompts import PromptSet, stop_tokens
from rlaif.training.models import (
    computes_in_bf16,
    identify_model,
    load_policy,
    load_scorer,
    load_tokenizer,
    model_arguments,
    need_reward_model,
)
from rlaif.training.ppo.actor_critic import ActorCritic, SeparateCritic, SharedBase, value_head
from rlaif.training.ppo.distributed import Distributed
from rlaif.training.ppo.optimiser import Optimiser
from rlaif.training.ppo.trainer import Models, PpoTrainer
from rlaif.training.ppo.update import Updater
from rlaif.training.ppo.vllm import Lengths, VllmRollouts
from rlaif.training.scorers import Scorer

OWN_CRITIC = ("auto", "policy", "shared")
"""Critics that start from the policy."""


def check_critic(config: PpoConfig, tokenizer: Any) -> None:
    """Make sure that the critic can read the policy's tokens, before anything is loaded.

    Raises:
        InputError: It is not a reward model, or has another vocabulary.
    """
    if config.critic in OWN_CRITIC:
        return
    need_reward_model(config.critic)
    other = load_tokenizer(config.critic, chat_template=config.chat_template)
    if not tokenizer.get_vocab().items() <= other.get_vocab().items():
        raise InputError(
            f"critic {config.critic}: it reads the policy's tokens, but its vocabulary has "
            "not all of them under the same numbers",
            hint="start the critic from the policy (critic: policy); as a scorer a reward "
            "model may have any tokenizer",
        )


def critic_plan(config: PpoConfig) -> dict[str, Any]:
    """Return ``critic`` by content, where it starts from another model."""
    own = config.critic in OWN_CRITIC
    return {} if own else {"critic": identify_model(config.critic)}


def load_actor_critic(config: PpoConfig, world: Distributed) -> ActorCritic:
    """Load policy, critic and reference.

    Raises:
        InputError: A model that cannot be used.
    """
    adapted = config.lora is not None
    arguments = model_arguments(config)
    policy, _ = load_policy(**arguments if adapted else {**arguments, "dtype": "float32"})
    options: dict[str, Any] = {
        "temperature": config.temperature,
        "reference": config.beta > 0,
        "checkpointing": config.gradient_checkpointing,
        "mixed": computes_in_bf16(config.dtype, policy),
    }
    if not getattr(policy, "is_loaded_in_4bit", False):
        policy.to(world.device)  # type: ignore[arg-type]
    if config.critic == "shared" or (config.critic == "auto" and adapted):
        return SharedBase(policy, **options)
    return SeparateCritic(policy, _load_critic(config).to(world.device), **options)


def gather(actor_critic: ActorCritic, tokenizer: Any, prompts: PromptSet) -> Models:
    """Return everything that a rollout works with."""
    stop_ids = stop_tokens(actor_critic.policy, tokenizer)
    return Models(actor_critic, tokenizer, prompts, stop_ids, int(tokenizer.pad_token_id))


def build_trainer(
    models: Models, scorer: Scorer, config: PpoConfig, world: Distributed
) -> tuple[PpoTrainer, Updater]:
    """Hand each part of a training its own settings."""
    both = models.actor_critic
    rollouts = config.part(PpoRolloutSettings)
    settings = config.part(UpdateSettings)
    rates = config.part(OptimiserSettings)
    steps = settings.steps(rollouts.rollout_size)
    updater = Updater(
        both,
        policy=Optimiser(
            both.policy_parameters(),
            peak=config.rate,
            steps=(rollouts.rollouts - settings.critic_warmup) * steps,
            settings=rates,
        ),
        critic=Optimiser(
            both.critic_parameters(),
            peak=config.critic_learning_rate,
            steps=rollouts.rollouts * steps,
            settings=rates,
        ),
        objective=config.part(ObjectiveSettings),
        settings=settings,
        rollouts=rollouts,
        world=world,
    )
    trainer = PpoTrainer(
        models,
        updater,
        scorer=scorer,
        rollouts=rollouts,
        rewards=config.part(RewardSettings),
        vllm=_open_vllm(models, config, world),
        world=world,
    )
    return trainer, updater


def _open_vllm(models: Models, config: PpoConfig, world: Distributed) -> VllmRollouts | None:
    if config.vllm is None:
        return None
    if config.vllm.mode == "server" and config.rollout_size % world.size:
        raise InputError(
            f"rollout_size {config.rollout_size} is not a multiple of {world.size} processes: a "
            "vLLM server deals responses out evenly"
        )
    return VllmRollouts(
        models.actor_critic.policy,
        models.tokenizer,
        config.vllm,
        Lengths(max(map(len, models.prompts.tokens)), config.max_new_tokens),
        stop_ids=models.stop_ids,
        temperature=config.temperature,
        world=world,
    )


def _load_critic(config: PpoConfig) -> Any:
    own = config.critic in OWN_CRITIC
    critic, _ = load_scorer(
        config.model if own else config.critic,
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
