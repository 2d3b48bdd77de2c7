"""Training files of reinforcement learning: the parts shared with PPO, RLOO, and GRPO."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from rlaif.config.load import Settings
from rlaif.config.prompts import PromptsConfig
from rlaif.config.reward import LengthPenaltyConfig, RewardPartConfig
from rlaif.config.train import KeepingSettings, ModelSettings, OptimiserSettings


class VllmConfig(Settings):
    """Responses drawn by vLLM instead of transformers; meant for GPUs."""

    mode: Literal["colocate", "server"] = Field(
        "colocate", description="In the training process, or behind `vllm serve`."
    )
    base_url: str | None = Field(None, description="server: its address.")
    gpu_memory_utilization: float = Field(
        0.3, gt=0, lt=1, description="colocate: share of the GPU's memory that vLLM takes."
    )
    importance: tuple[float, float] = Field(
        (0.5, 5.0),
        description="PPO: bounds of the weights that correct for vLLM's different rounding.",
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> "VllmConfig":
        if (self.mode == "server") != (self.base_url is not None):
            raise ValueError("mode: server needs base_url; mode: colocate has none")
        if self.mode == "server" and "gpu_memory_utilization" in self.model_fields_set:
            raise ValueError("gpu_memory_utilization has no effect: the server has its own setting")
        low, high = self.importance
        if not 0 <= low <= 1 <= high:
            raise ValueError("importance: needs 0 ≤ low ≤ 1 ≤ high")
        return self


class RolloutSettings(Settings):
    """How responses are drawn and scored."""

    rollouts: int = Field(100, ge=1)
    rollout_size: int = Field(64, ge=1, description="Responses per rollout, over all processes.")
    max_new_tokens: int = Field(128, ge=1)
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    seed: int = Field(0, ge=0)
    scorer_timeout: float | None = Field(
        600.0, gt=0, description="Seconds until a scorer counts as hung; null: never."
    )

    INERT: ClassVar = frozenset({"scorer_timeout"})


class MinibatchSettings(Settings):
    """How a rollout is split into optimiser steps."""

    minibatch_size: int = Field(32, ge=1, description="Responses per optimiser step.")
    epochs: int = Field(1, ge=1, description="Passes over each rollout.")


class LoggingSettings(KeepingSettings):
    """How often checkpoints are written and samples shown."""

    save_every: int = Field(25, ge=1, description="Rollouts between checkpoints to resume from.")
    show_samples: int = Field(2, ge=0, description="Responses shown and kept, each time.")
    show_every: int = Field(5, ge=1, description="Rollouts between shown samples.")

    INERT: ClassVar = frozenset({"show_samples", "show_every"})


class OnlineConfig(
    ModelSettings, RolloutSettings, MinibatchSettings, OptimiserSettings, LoggingSettings
):
    """What PPO, RLOO and GRPO share."""

    prompts: PromptsConfig | None = None
    reward: RewardPartConfig | tuple[RewardPartConfig, ...] | None = Field(
        None, description="One scorer, or several whose weighted scores are added up."
    )
    length_penalty: LengthPenaltyConfig | None = None
    max_prompt_tokens: int | None = Field(
        None, ge=1, description="Longer prompts are left out and counted (default: as many as fit)."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Peak learning rate (default: 3e-6, or 1e-5 with lora).",
    )
    warmup: float = Field(0.03, ge=0, lt=1, description="Share of all steps.")
    beta: float = Field(0.05, ge=0, allow_inf_nan=False, description="Reward lost per nat of KL.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations: less memory, a third more time."
    )
    vllm: VllmConfig | None = Field(
        None, description="Generate with vLLM (default: with transformers)."
    )

    # Prompts and scorers count by their content.
    INERT: ClassVar = frozenset({"prompts", "reward", "length_penalty", "gradient_checkpointing"})

    @property
    def rate(self) -> float:
        """The policy's peak learning rate."""
        return self.learning_rate or (3e-6 if self.lora is None else 1e-5)

    @model_validator(mode="after")
    def _sound(self) -> "OnlineConfig":
        if self.lora is not None and self.lora.dropout > 0:
            raise ValueError(
                "lora.dropout must be 0: dropout changes the log-probabilities at every pass"
            )
        if self.vllm is not None and self.lora is not None and self.lora.quantize:
            raise ValueError("vllm cannot load adapters on a 4-bit base: set lora.quantize: false")
        if self.rollout_size % self.minibatch_size:
            raise ValueError(
                f"rollout_size {self.rollout_size} is not a multiple of "
                f"minibatch_size {self.minibatch_size}"
            )
        return self


class GroupConfig(OnlineConfig):
    """What RLOO and GRPO share: no critic, but several responses to each prompt."""

    group_size: int = Field(4, ge=2, description="Responses per prompt.")
    micro_batch: int = Field(
        8, ge=1, description="Responses per device and forward pass; affects only memory."
    )
    clip_low: float = Field(0.2, gt=0, lt=1)
    clip_high: float = Field(0.2, gt=0)
    skip_cut_off: bool = Field(
        False, description="Leave responses that hit max_new_tokens out of the loss."
    )

    INERT: ClassVar = frozenset({"micro_batch"})

    @property
    def steps(self) -> int:
        """Optimiser steps per rollout."""
        return self.epochs * self.rollout_size // self.minibatch_size

    @model_validator(mode="after")
    def _groups_fit(self) -> "GroupConfig":
        if self.vllm is not None and "importance" in self.vllm.model_fields_set:
            raise ValueError(
                "vllm.importance has no effect: only PPO reads it; TRL corrects by itself"
            )
        for name, divisor in (("group_size", self.group_size), ("micro_batch", self.micro_batch)):
            if self.minibatch_size % divisor:
                raise ValueError(
                    f"minibatch_size {self.minibatch_size} is not a multiple of {name} {divisor}"
                )
        return self


class RlooConfig(GroupConfig):
    """REINFORCE leave-one-out: the other responses of a group are the baseline (2402.14740)."""

    normalise_advantages: bool = False
    score_clip: float | None = Field(None, gt=0, description="Scores are cut to ±this.")


class GrpoConfig(GroupConfig):
    """Group-relative policy optimisation (2402.03300) and its variants in TRL."""

    group_size: int = Field(8, ge=2, description="Responses per prompt.")
    beta: float = Field(0.0, ge=0, allow_inf_nan=False, description="Weight of the KL loss.")
    loss: Literal["dapo", "grpo", "dr_grpo", "bnpo"] = "dapo"
    scale_scores: Literal["group", "batch", "none"] = Field(
        "group", description="Whose deviation the scores are divided by."
    )

    def content(self) -> dict[str, Any]:
        """Return what changes the result: with bnpo, a mean over its tokens, also micro_batch."""
        counts = {"micro_batch": self.micro_batch} if self.loss == "bnpo" else {}
        return {**super().content(), **counts}
