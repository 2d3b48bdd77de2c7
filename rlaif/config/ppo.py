"""Training files of reinforcement learning: what `rlaif train ppo|rloo|grpo` is told."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rlaif.config.judged import JudgedConfig
from rlaif.config.load import (
    SHIPPED_MODELS,
    FilePath,
    ModelName,
    NameOrFile,
    Settings,
    word_or_path,
)
from rlaif.config.run import PromptsConfig
from rlaif.config.train import LoraConfig


class RewardPartConfig(Settings):
    """One scorer: exactly one of ``rules``, ``reward_model`` and ``judged``."""

    rules: NameOrFile | None = Field(
        None, description="A constitution; the share of its rules a response satisfies."
    )
    reward_model: ModelName | None = Field(
        None, description="A sequence classifier with one label; any tokenizer."
    )
    judged: JudgedConfig | None = Field(None, description="Judges that score each response.")
    chat_template: NameOrFile | None = Field(
        None, description="The reward model's, where its tokenizer has none."
    )
    weight: float = Field(1.0, allow_inf_nan=False, description="Factor on its scores.")

    @model_validator(mode="after")
    def _one_source(self) -> "RewardPartConfig":
        if [self.rules, self.reward_model, self.judged].count(None) != 2:
            raise ValueError("give exactly one of rules, reward_model and judged")
        if self.chat_template is not None and self.reward_model is None:
            raise ValueError("chat_template belongs to reward_model")
        return self


class LengthPenaltyConfig(Settings):
    """What a long response loses."""

    per_word: float = Field(gt=0, allow_inf_nan=False)
    free_words: int = Field(0, ge=0, description="Words that cost nothing.")


class VllmConfig(Settings):
    """Responses drawn by vLLM instead of transformers; meant for GPUs."""

    mode: Literal["colocate", "server"] = Field(
        "colocate", description="In the training process, or behind `vllm serve`."
    )
    base_url: str | None = Field(None, description="server: where it listens.")
    gpu_memory_utilization: float = Field(
        0.3, gt=0, lt=1, description="colocate: share of the GPU's memory that vLLM takes."
    )
    importance: tuple[float, float] = Field(
        (0.5, 5.0),
        description="PPO: bounds of the weights that correct for vLLM's other rounding.",
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> "VllmConfig":
        if (self.mode == "server") != (self.base_url is not None):
            raise ValueError("mode: server needs base_url, and colocate takes none")
        if self.mode == "server" and "gpu_memory_utilization" in self.model_fields_set:
            raise ValueError("gpu_memory_utilization has no effect, the server has its own")
        low, high = self.importance
        if not 0 <= low <= 1 <= high:
            raise ValueError("importance: needs 0 ≤ low ≤ 1 ≤ high")
        return self


class OnlineConfig(Settings):
    """What PPO, RLOO and GRPO share."""

    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="What is computed in; trained weights are always fp32."
    )
    chat_template: NameOrFile | None = Field(
        None, description="chatml or a .jinja file; absent: the tokenizer's own."
    )
    lora: LoraConfig | None = None
    max_new_tokens: int = Field(128, ge=1)
    max_prompt_tokens: int | None = Field(
        None, ge=1, description="Longer prompts are left out and counted; absent: what fits."
    )
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    learning_rate: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Absent: 3e-6, or 1e-5 with lora."
    )
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = Field(0.03, ge=0, lt=1, description="Share of all steps.")
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    max_grad_norm: float = Field(1.0, gt=0)
    beta: float = Field(0.05, ge=0, allow_inf_nan=False, description="Reward lost per nat of KL.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations: less memory, a third more time."
    )
    rollouts: int = Field(100, ge=1)
    rollout_size: int = Field(64, ge=1, description="Responses per rollout, over all processes.")
    minibatch_size: int = Field(32, ge=1, description="Responses per optimiser step.")
    vllm: VllmConfig | None = Field(None, description="Absent: transformers draws.")
    scorer_timeout: float | None = Field(
        600.0, gt=0, description="Seconds until a scorer counts as hanging; null: never."
    )
    seed: int = Field(0, ge=0)
    save_every: int = Field(25, ge=1, description="Rollouts between checkpoints to resume from.")
    keep_checkpoints: bool = Field(False, description="Keep them after training has finished.")
    show_samples: int = Field(2, ge=0, description="Responses shown and kept, each time.")
    show_every: int = Field(5, ge=1, description="Rollouts between shown samples.")
    report_to: tuple[Literal["wandb", "trackio"], ...] = ()

    @property
    def rate(self) -> float:
        """The policy's peak learning rate."""
        return self.learning_rate or (3e-6 if self.lora is None else 1e-5)

    @model_validator(mode="after")
    def _sound(self) -> "OnlineConfig":
        if self.lora is not None and self.lora.dropout > 0:
            raise ValueError("lora.dropout must be 0: with it no log-probability comes out twice")
        if self.vllm is not None and self.lora is not None and self.lora.quantize:
            raise ValueError("vllm cannot take adapters on a base in 4 bits: set lora.quantize off")
        if self.rollout_size % self.minibatch_size:
            raise ValueError(
                f"rollout_size {self.rollout_size} is no multiple of "
                f"minibatch_size {self.minibatch_size}"
            )
        return self


class PpoConfig(OnlineConfig):
    """Proximal policy optimisation. The unit of progress is a rollout."""

    responses_per_prompt: int = Field(1, ge=1)
    generation_batch: int | None = Field(
        None, ge=1, description="Responses drawn at once per process; absent: all."
    )
    epochs: int = Field(2, ge=1, description="Passes over each rollout.")
    micro_tokens: int | None = Field(
        None,
        ge=1,
        description="Padded tokens per forward and backward pass: only memory and speed; absent: "
        "1024 on a CPU, 8192 on a GPU.",
    )
    critic: Annotated[str, word_or_path("auto", "policy", "shared", *SHIPPED_MODELS)] = Field(
        "auto",
        description="policy: a model of its own started from the policy; shared: adapters on the "
        "policy's base (needs lora); a folder: started from that reward model; auto: shared with "
        "lora, else policy.",
    )
    critic_learning_rate: float = Field(1e-5, gt=0, allow_inf_nan=False)
    critic_warmup: int = Field(
        5, ge=0, description="First rollouts in which only the critic learns."
    )
    kl_target: float | None = Field(
        6.0, gt=0, description="Nats per sequence that beta is steered to; null: beta is fixed."
    )
    kl_horizon: int = Field(10_000, ge=1, description="Responses; larger steers more slowly.")
    beta_min: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Beta is never steered below this."
    )
    gamma: float = Field(1.0, ge=0, le=1)
    lam: float = Field(0.95, ge=0, le=1, description="λ of the advantages.")
    critic_lam: float | None = Field(
        None, ge=0, le=1, description="λ of the value targets; absent: lam."
    )
    clip_low: float = Field(0.2, gt=0, lt=1)
    clip_high: float = Field(0.2, gt=0)
    dual_clip: float | None = Field(None, gt=1, description="Usually 3; null: off.")
    value_clip: float | None = Field(0.2, gt=0, description="In reward units; null: off.")
    entropy_bonus: float = Field(0.0, ge=0, description="Reward per nat of entropy, per token.")
    aggregate: Literal["token-mean", "sequence-mean", "sequence-sum"] = Field(
        "token-mean",
        description="What a token of the policy loss counts: alike in the whole minibatch; alike "
        "within a response, and all responses alike; or responses alike, each the sum over its "
        "tokens.",
    )
    max_kl: float | None = Field(
        0.1,
        gt=0,
        description="Nats per token from the policy that drew the rollout, beyond which the "
        "policy rests until the next; null: never.",
    )
    max_ratio: float = Field(
        10.0, gt=1, description="A minibatch with a larger mean ratio takes no step."
    )
    normalise_scores: bool = Field(
        True, description="z-score over all scores seen so far, before the clip."
    )
    score_clip: float = Field(5.0, gt=0)
    missing_end_penalty: float = Field(
        1.0, ge=0, description="Taken off the score of a response that was cut off."
    )
    whiten_rewards: bool = Field(False, description="Scale rewards to unit variance.")

    @model_validator(mode="after")
    def _parts_fit(self) -> "PpoConfig":
        if self.rollout_size % self.responses_per_prompt:
            raise ValueError(
                f"rollout_size {self.rollout_size} is no multiple of "
                f"responses_per_prompt {self.responses_per_prompt}"
            )
        if self.critic == "shared" and self.lora is None:
            raise ValueError("critic: shared needs lora")
        if self.critic_warmup >= self.rollouts:
            raise ValueError(
                f"critic_warmup {self.critic_warmup} leaves the policy none of "
                f"{self.rollouts} rollouts"
            )
        if self.kl_target is not None and self.kl_horizon <= 0.2 * self.rollout_size:
            raise ValueError(
                f"kl_horizon {self.kl_horizon}: must be more than a fifth of rollout_size "
                f"{self.rollout_size}, or one rollout could make beta negative"
            )
        if self.beta_min > self.beta:
            raise ValueError(f"beta_min {self.beta_min} is above beta {self.beta}")
        if self.beta == 0 and self.kl_target is not None:
            raise ValueError("beta 0 cannot be steered: set kl_target to null")
        return self


class GroupConfig(OnlineConfig):
    """What RLOO and GRPO share: no critic, but several responses to each prompt."""

    group_size: int = Field(4, ge=2, description="Responses per prompt.")
    epochs: int = Field(1, ge=1, description="Passes over each rollout.")
    micro_batch: int = Field(
        8, ge=1, description="Responses per device and forward pass; only memory."
    )
    clip_low: float = Field(0.2, gt=0, lt=1)
    clip_high: float = Field(0.2, gt=0)
    skip_cut_off: bool = Field(
        False, description="Leave responses that hit max_new_tokens out of the loss."
    )

    @property
    def steps(self) -> int:
        """Optimiser steps per rollout."""
        return self.epochs * self.rollout_size // self.minibatch_size

    @model_validator(mode="after")
    def _groups_fit(self) -> "GroupConfig":
        if self.vllm is not None and "importance" in self.vllm.model_fields_set:
            raise ValueError("vllm.importance is PPO's; TRL's trainers correct in their own way")
        for name, divisor in (("group_size", self.group_size), ("micro_batch", self.micro_batch)):
            if self.minibatch_size % divisor:
                raise ValueError(
                    f"minibatch_size {self.minibatch_size} is no multiple of {name} {divisor}"
                )
        return self


class RlooConfig(GroupConfig):
    """REINFORCE, leave one out: the others of a group are the baseline (2402.14740)."""

    normalise_advantages: bool = False
    score_clip: float | None = Field(None, gt=0, description="Scores are cut to ±this.")


class GrpoConfig(GroupConfig):
    """Group-relative policy optimisation (2402.03300) and its relatives, as TRL has them."""

    group_size: int = Field(8, ge=2, description="Responses per prompt.")
    beta: float = Field(0.0, ge=0, allow_inf_nan=False, description="Weight of the KL loss.")
    loss: Literal["dapo", "grpo", "dr_grpo", "bnpo"] = "dapo"
    scale_scores: Literal["group", "batch", "none"] = Field(
        "group", description="Whose deviation the scores are divided by."
    )


class OnlineFile(Settings):
    """What a training file names beside the settings of its method."""

    model: ModelName = Field(description="A shipped name, a folder or a hub id.")
    prompts: PromptsConfig
    reward: RewardPartConfig | tuple[RewardPartConfig, ...] = Field(
        description="One scorer, or several whose weighted scores are added up."
    )
    length_penalty: LengthPenaltyConfig | None = None
    out: FilePath = Field(description="The folder the checkpoint is written to.")


class PpoFile(PpoConfig, OnlineFile):
    """A whole `rlaif train ppo` file."""


class RlooFile(RlooConfig, OnlineFile):
    """A whole `rlaif train rloo` file."""


class GrpoFile(GrpoConfig, OnlineFile):
    """A whole `rlaif train grpo` file."""
