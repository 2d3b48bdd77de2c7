"""The training file of PPO, composed of the settings records of its parts."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from rlaif.config.load import SHIPPED_MODELS, Settings, word_or_path
from rlaif.config.online import MinibatchSettings, OnlineConfig, RolloutSettings

Aggregate = Literal["token-mean", "sequence-mean", "sequence-sum"]
"""How the policy loss is averaged: over all tokens of a minibatch (DAPO, 2503.14476); over the
tokens of each response, then over responses (GRPO, 2402.03300); summed over the tokens of each
response, then averaged over responses (Dr. GRPO, 2503.20783, up to a constant)."""


class PpoRolloutSettings(RolloutSettings):
    """How PPO draws its rollouts."""

    responses_per_prompt: int = Field(1, ge=1)
    generation_batch: int | None = Field(
        None, ge=1, description="Responses drawn at once per process (default: all)."
    )

    INERT: ClassVar = frozenset({"generation_batch"})


class UpdateSettings(MinibatchSettings):
    """How a rollout is split into passes and optimiser steps."""

    epochs: int = Field(2, ge=1, description="Passes over each rollout.")
    micro_tokens: int | None = Field(
        None,
        ge=1,
        description="Padded tokens per forward and backward pass: only memory and speed (default: "
        "1024 on a CPU, 8192 on a GPU).",
    )
    critic_warmup: int = Field(
        5, ge=0, description="First rollouts in which only the critic learns."
    )

    INERT: ClassVar = frozenset({"micro_tokens"})

    def steps(self, rollout_size: int) -> int:
        """Optimiser steps per rollout of this size."""
        return self.epochs * rollout_size // self.minibatch_size


class ObjectiveSettings(Settings):
    """What is optimised, and when to stop."""

    aggregate: Aggregate = Field(
        "token-mean",
        description="Average the policy loss over all tokens of a minibatch; over the tokens of "
        "each response, then over responses; or sum it over the tokens of each response, then "
        "average over responses. The value loss is always a mean over tokens.",
    )
    clip_low: float = Field(0.2, gt=0, lt=1)
    clip_high: float = Field(0.2, gt=0)
    dual_clip: float | None = Field(None, gt=1, description="Usually 3; null: off.")
    value_clip: float | None = Field(0.2, gt=0, description="In reward units; null: off.")
    entropy_bonus: float = Field(0.0, ge=0, description="Reward per nat of entropy, per token.")
    max_kl: float | None = Field(
        0.1,
        gt=0,
        description="Nats per token (k3) from the policy that drew the rollout; beyond this the "
        "policy takes no further step until the next rollout; null: never.",
    )
    max_ratio: float = Field(
        10.0, gt=1, description="A minibatch with a larger mean ratio takes no step."
    )


class RewardSettings(Settings):
    """How scores become rewards and advantages."""

    normalise_scores: bool = Field(
        True, description="z-score over all scores seen so far, before the clip."
    )
    score_clip: float = Field(
        5.0, gt=0, description="Bound of the z-score, or of the raw score without normalise_scores."
    )
    missing_end_penalty: float = Field(
        1.0,
        ge=0,
        description="Subtracted from the score of a response that was cut off, after the clip.",
    )
    gamma: float = Field(1.0, ge=0, le=1)
    lam: float = Field(0.95, ge=0, le=1, description="λ of the advantages.")
    critic_lam: float | None = Field(
        None,
        ge=0,
        le=1,
        description="λ of the value targets (default: lam); VC-PPO (2503.01491) uses 1.",
    )
    whiten_rewards: bool = Field(
        False, description="Scale rewards to unit variance, keeping their mean."
    )


class PpoConfig(
    PpoRolloutSettings,
    UpdateSettings,
    ObjectiveSettings,
    RewardSettings,
    OnlineConfig,
):
    """Proximal policy optimisation. The unit of progress is a rollout."""

    critic: Annotated[str, word_or_path("auto", "policy", "shared", *SHIPPED_MODELS)] = Field(
        "auto",
        description="policy: a separate model, started from the policy; shared: adapters on the "
        "policy's base (needs lora); a folder: started from that reward model; auto: shared with "
        "lora, else policy.",
    )
    critic_learning_rate: float = Field(1e-5, gt=0, allow_inf_nan=False)
    kl_target: float | None = Field(
        6.0, gt=0, description="Nats per sequence that beta is steered to; null: beta is fixed."
    )
    kl_gain: float = Field(
        1.0,
        gt=0,
        lt=5,
        description="After a rollout, beta changes by kl_gain times the relative error of its KL, "
        "counted as at most 0.2. Larger steers faster; Ziegler et al. 2019 use 0.1.",
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> "PpoConfig":
        if self.rollout_size % self.responses_per_prompt:
            raise ValueError(
                f"rollout_size {self.rollout_size} is not a multiple of "
                f"responses_per_prompt {self.responses_per_prompt}"
            )
        if self.critic == "shared" and self.lora is None:
            raise ValueError("critic: shared needs lora")
        if self.critic_warmup >= self.rollouts:
            raise ValueError(
                f"critic_warmup {self.critic_warmup} leaves the policy none of "
                f"{self.rollouts} rollouts"
            )
        if self.beta == 0 and self.kl_target is not None:
            raise ValueError("beta 0 cannot be steered: set kl_target to null")
        return self
