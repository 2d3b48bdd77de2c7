"""Schemas of the training files of `rlaif train sft|reward|dpo`, and the parts all share."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from rlaif.config.load import FilePath, ModelName, NameOrFile, NameOrPath, Settings
from rlaif.config.reward import RewardPartConfig

TRL_LOSSES = (
    "sigmoid",
    "hinge",
    "exo_pair",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
)
"""Losses that TRL computes; they ignore soft labels."""


class LoraSettings(Settings):
    """Low-rank adapters (2106.09685) instead of all weights."""

    r: int = Field(16, ge=1, description="Rank.")
    alpha: int = Field(32, ge=1, description="The update is scaled by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = Field(
        "all-linear", description="all-linear, or names of linear layers."
    )
    quantize: bool = Field(False, description="QLoRA (2305.14314): the base in 4 bits; needs CUDA.")


class SamplesConfig(Settings):
    """Replies of the policy that are shown and kept during training."""

    every: int = Field(0, ge=0, description="Steps between samples; 0 turns them off.")
    prompts: int = Field(
        2, ge=1, le=32, description="Number of different prompts, from the start of the data."
    )
    max_tokens: int = Field(64, ge=1)
    reward: RewardPartConfig | tuple[RewardPartConfig, ...] | None = Field(
        None, description="Scores the samples; measured only, the training does not depend on it."
    )

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> "SamplesConfig":
        if self.reward is not None and not self.every:
            raise ValueError("reward has no effect without samples: set every")
        return self


class ModelSettings(Settings):
    """The model that training starts from."""

    model: ModelName = Field(description="A shipped name, a folder or a hub id.")
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Precision of computations; with full training, weights are always fp32.",
    )
    chat_template: NameOrFile | None = Field(
        None, description="chatml, a .jinja file, or none (default: the tokenizer's own)."
    )
    lora: LoraSettings | None = None

    INERT: ClassVar = frozenset({"model"})  # counts by its content


class OptimiserSettings(Settings):
    """How big the steps of an optimiser are."""

    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of all steps.")
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    max_grad_norm: float = Field(1.0, gt=0)


class KeepingSettings(Settings):
    """Where checkpoints are written, and which are kept."""

    out: FilePath = Field(description="The folder the checkpoint is written to.")
    save_every: int = Field(200, ge=1, description="Steps between checkpoints to resume from.")
    keep_checkpoints: bool = Field(
        False, description="Keep those to resume from after training has finished."
    )
    report_to: tuple[Literal["wandb", "trackio"], ...] = ()

    INERT: ClassVar = frozenset({"out", "save_every", "keep_checkpoints", "report_to"})


class TrainConfig(ModelSettings, OptimiserSettings, KeepingSettings):
    """Settings shared by the trainers that read data sets."""

    data: NameOrPath | None = Field(
        None, description="An export folder, a Parquet or JSONL file, or a hub id."
    )
    split: str = Field(
        "train",
        min_length=1,
        description="Of data with several splits (files such as test-*.parquet), the one to use.",
    )
    learning_rate: float = Field(1e-5, gt=0, allow_inf_nan=False)
    epochs: float = Field(1.0, gt=0)
    max_steps: int | None = Field(None, ge=1, description="Overrides epochs.")
    batch_size: int = Field(8, ge=1, description="Rows per device and forward pass.")
    accumulate: int = Field(1, ge=1, description="Forward passes per optimiser step.")
    max_length: int = Field(1024, ge=2, description="Tokens of prompt and response together.")
    gradient_checkpointing: bool | None = Field(
        None,
        description="Recompute activations to save memory (default: off on CPU and for small "
        "models, else on).",
    )
    seed: int = Field(0, ge=0)
    held_out: float = Field(
        0.0, ge=0, lt=1, description="Share of the prompts kept for measuring; chosen by content."
    )
    measure_every: int = Field(
        0, ge=0, description="Steps between measurements on held-out rows; 0: only at the end."
    )
    stop_after: int | None = Field(
        None,
        ge=1,
        description="Stop when the held-out loss has not fallen in this many measurements; the "
        "best checkpoint is kept (default: train to the end).",
    )
    log_every: int = Field(1, ge=1)
    samples: SamplesConfig = SamplesConfig()

    # A data set counts by its content; a hub id's revision is part of the model's.
    INERT: ClassVar = frozenset(
        {"data", "split", "revision", "gradient_checkpointing", "log_every", "samples"}
    )

    def content(self) -> dict[str, Any]:
        """Leave out the stop rule where there is none: measuring alone changes no result."""
        values = super().content()
        if self.stop_after is None:
            del values["measure_every"], values["stop_after"]
        return values

    @model_validator(mode="after")
    def _measured_on_something(self) -> "TrainConfig":
        if self.measure_every and not self.held_out:
            raise ValueError("measure_every needs held_out: a share of prompts to measure on")
        if self.stop_after and not self.measure_every:
            raise ValueError("stop_after needs measure_every: the steps between measurements")
        return self


class MixConfig(Settings):
    """A further set of demonstrations."""

    data: NameOrPath = Field(description="An export folder, a Parquet or JSONL file, or a hub id.")
    ratio: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="Its rows per row of the main data."
    )


class SftConfig(TrainConfig):
    """Supervised fine-tuning on demonstrations; the loss is over responses only."""

    learning_rate: float = Field(2e-5, gt=0, allow_inf_nan=False)
    packing: bool = Field(False, description="Several short demonstrations in one row.")
    turns: Literal["last", "all"] = Field(
        "last", description="Which assistant turns of a conversation are learned."
    )
    mix: tuple[MixConfig, ...] = Field(
        (), description="Sets mixed in by ratio, such as demonstrations of help beside revisions."
    )

    INERT: ClassVar = frozenset({"mix"})  # counts by its content


class RewardConfig(TrainConfig):
    """A reward model on preference pairs."""

    learning_rate: float = Field(1e-5, gt=0, allow_inf_nan=False)
    held_out: float = Field(0.1, ge=0, lt=1)
    labels: Literal["soft", "hard"] = Field("soft", description="hard: read chosen_prob as 1.")
    margin_scale: float = Field(
        0.0, ge=0, description="Require scores to differ by this times the margin column."
    )
    centring: float = Field(
        0.0, ge=0, description="Weight that pulls the two scores' sum to 0; usually 0.01."
    )
    gold: tuple[NameOrPath, ...] = Field(
        (), description="Labelled pairs to measure on besides the held-out ones."
    )

    INERT: ClassVar = frozenset({"gold"})  # counts by its content

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> "RewardConfig":
        if self.samples != SamplesConfig():
            raise ValueError("samples has no effect: a reward model writes no replies")
        if len(set(self.gold)) < len(self.gold):
            raise ValueError("gold names a set twice")
        return self


class DpoConfig(TrainConfig):
    """Direct preference optimisation and its variants."""

    learning_rate: float = Field(1e-6, gt=0, allow_inf_nan=False)
    beta: float = Field(0.1, gt=0, allow_inf_nan=False, description="Strength of the KL anchor.")
    loss: Literal[
        "soft",
        "gdpo",
        "ipo",
        "robust",
        "regression",
        "sigmoid",
        "hinge",
        "exo_pair",
        "nca_pair",
        "bco_pair",
        "sppo_hard",
        "aot",
        "aot_unpaired",
        "apo_zero",
        "apo_down",
        "discopop",
    ] = Field("soft", description="soft to regression use chosen_prob; the rest are TRL's own.")
    noise: float | None = Field(
        None, gt=0, lt=0.5, description="robust and exo_pair: share of labels that are flipped."
    )
    logit_clip: float | None = Field(
        None, gt=0, description="regression: bound of the log-odds of a label (default: 4)."
    )
    length_normalised: bool = Field(
        False, description="Mean instead of summed token log-ratios (ipo always does)."
    )
    nll: float = Field(0.0, ge=0, description="Weight of the chosen response's NLL; usually 1.")
    reference: Literal["auto", "precomputed", "adapter-off", "second-model"] = "auto"
    reference_model: ModelName | None = Field(
        None, description="Reference model (default: the model that training starts from)."
    )

    @model_validator(mode="after")
    def _options_fit_the_loss(self) -> "DpoConfig":
        if self.noise is not None and self.loss not in ("robust", "exo_pair"):
            raise ValueError(f"noise belongs to loss robust or exo_pair, not to {self.loss}")
        if self.loss in ("robust", "exo_pair") and self.noise is None:
            raise ValueError(f"loss {self.loss} needs noise, the share of flipped labels")
        if self.logit_clip is not None and self.loss != "regression":
            raise ValueError(f"logit_clip belongs to loss regression, not to {self.loss}")
        if self.loss in TRL_LOSSES and self.length_normalised:
            raise ValueError(f"length_normalised cannot be combined with TRL's loss {self.loss}")
        if self.reference == "adapter-off" and self.lora is None:
            raise ValueError("reference: adapter-off needs lora")
        if self.reference == "adapter-off" and self.reference_model is not None:
            raise ValueError("reference: adapter-off and reference_model exclude each other")
        return self
