"""Judges in a run file: which model, which method, and that method's settings.

The records of settings are what the flows of `rlaif.judging.methods` take.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from rlaif.config.load import FilePath, ModelName, Settings, ShortName
from rlaif.records import content_id

Method = Literal["contrast", "pairwise", "pointwise", "reward", "rubric", "salmon"]

_Factor = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

MIN_MASS = 0.05
"""Default of ``min_mass``. SmolLM2-135M, which hardly follows instructions, puts 0.10 to 0.34 on A
and B or Yes and No, and 0.02 to 0.04 on the scores 1 to 9, which it would rather not give; a model
that begins with something else, such as ``<think>``, leaves 0.00001."""

MinMass = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="Label mass below this makes a verdict an abstention; 0 turns it off.",
    ),
]

COT_CLAMP = 0.4
"""Default bound of labels made with chain of thought: they are kept within 40–60 %."""


class Contrast(Settings):
    """Contrastive likelihood (DLMA's reward): how log-probability differences become log-odds."""

    scale: float = Field(0.2, gt=0, allow_inf_nan=False, description="Factor on the difference.")
    clamp: float = Field(40.0, gt=0, description="The difference is cut to ± this first.")
    per_token: bool = Field(
        False,
        description="Divide each log-probability by its tokens, so that length alone cannot "
        "decide. The difference is then small: use a larger scale.",
    )


class Pairwise(Settings):
    """Pairwise (RL-CAI): what is shown besides the two responses, and how the reply is read."""

    exemplars: int = Field(
        0, ge=0, le=16, description="At most this many of the principle's own examples are shown."
    )
    chain_of_thought: bool = Field(
        False, description="Let the judge reason first; then read A or B from the next token."
    )
    clamp: float | None = Field(
        None,
        ge=0,
        lt=0.5,
        description="chain_of_thought: keep labels within [clamp, 1 - clamp]; 0 turns it off "
        f"(default: {COT_CLAMP}; with samples 0).",
    )
    words: bool = Field(
        False, description="Read the reply's words, for servers without log-probabilities."
    )
    samples: int = Field(
        1,
        ge=1,
        le=64,
        description="words, chain_of_thought, thinking: verdicts drawn per order. The label is the "
        "share of A, one vote of prior included.",
    )
    thinking: int | None = Field(
        None,
        ge=1,
        description="For a judge that thinks first: tokens that it may think. The label is read "
        "after the thought, where the engine can start the reply, else from the words after it.",
    )
    neither: bool = Field(
        False,
        description="Let the judge reply N where a question has no bearing on the conversation; "
        "such a verdict abstains. judging.relevance: label sets it for every judge.",
    )
    think_tags: tuple[str, str] = Field(
        ("<think>", "</think>"),
        description="thinking: what the thought stands between when the reply is started with it; "
        "the first is empty where the chat template writes it.",
    )
    max_tokens: int = Field(
        512, ge=1, description="Of the reasoning, or of a reply in words (after the thought)."
    )
    temperature: float = Field(0.0, ge=0, le=10, description="Of reasoning, thinking and samples.")

    IMPLIED: ClassVar = {
        "samples": 1,
        "thinking": None,
        "think_tags": ["<think>", "</think>"],
        "neither": False,
    }

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> "Pairwise":
        reasons = self.chain_of_thought or self.thinking is not None
        if self.chain_of_thought and self.thinking is not None:
            raise ValueError("a judge that thinks needs no chain_of_thought: leave one of them out")
        if self.neither and self.chain_of_thought:
            raise ValueError("neither is for judges that reply at once: leave chain_of_thought out")
        if self.clamp is not None and not self.chain_of_thought:
            raise ValueError("clamp is for labels made with chain_of_thought: true")
        if self.samples > 1 and not (reasons or self.words):
            raise ValueError(
                "samples has no effect on label probabilities: set words: true, "
                "chain_of_thought: true or thinking"
            )
        if self.samples > 1 and self.temperature == 0.0:
            raise ValueError(
                "samples at temperature 0 are all the same: set temperature, such as 1"
            )
        if self.temperature != 0.0 and not reasons and self.samples == 1:
            raise ValueError(
                "temperature is for reasoning, thinking and samples: set chain_of_thought: true, "
                "thinking or samples"
            )
        if self.max_tokens != 512 and not (reasons or self.words):
            raise ValueError(
                "max_tokens is for chain_of_thought: true, thinking or words: true; "
                "a label is one token"
            )
        if self.thinking is None and self.think_tags != ("<think>", "</think>"):
            raise ValueError("think_tags has no effect without thinking")
        return self

    @property
    def kept_within(self) -> float:
        """Labels stay within [this, 1 − this]; 0 for labels that are not clamped.

        By default a single reasoning is clamped, and shares of several samples are not.
        """
        if not self.chain_of_thought:
            return 0.0
        if self.clamp is None:
            return COT_CLAMP if self.samples == 1 else 0.0
        return self.clamp


class Pointwise(Settings):
    """Pointwise (d-RLAIF): how two expected scores become log-odds."""

    scale: float = Field(
        4.0,
        gt=0,
        allow_inf_nan=False,
        description="Log-odds per unit of score; scores are in [-1, 1], one point of nine is 0.25.",
    )


class Reward(Settings):
    """A trained reward model: how two scores become log-odds."""

    scale: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="Log-odds per unit of the model's score."
    )


class Rubric(Settings):
    """Rubric (RBR): how answers to yes/no propositions become log-odds."""

    IMPLIED: ClassVar = {"combine": "mean"}

    scale: float = Field(
        4.0, gt=0, allow_inf_nan=False, description="Log-odds per unit of probability."
    )
    combine: Literal["sum", "mean"] = Field(
        "sum",
        description="Log-odds of the propositions asked are summed, as in the paper, or averaged.",
    )
    both_polarities: bool = Field(
        True, description="Ask whether it is kept and whether it is broken; else only the first."
    )
    weights: dict[str, _Factor] = Field(
        default_factory=dict,
        description="Principle id to a fitted factor on its difference, of any sign (default: 1).",
    )


class Salmon(Settings):
    """Principle-wise scores (SALMON's labels, without its reward model)."""

    variances: dict[str, _Positive] = Field(
        default_factory=dict,
        description="Principle id to what its log-odds are divided by (default: 1).",
    )


class JudgeConfig(Settings):
    """One judge: a model and a method. Rule principles need no judge: they are always applied.

    For a judge that is the student itself, write ``model: same-as-student`` or name the same model
    again; the run notes it either way.
    """

    name: ShortName = "judge"
    engine: Literal["transformers", "openai", "vllm", "reward-model", "scripted"] | None = None
    model: ModelName = Field(description="As for the student, or same-as-student.")
    revision: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    method: Method = "pairwise"
    contrast: Contrast = Contrast()
    pairwise: Pairwise = Pairwise()
    pointwise: Pointwise = Pointwise()
    reward: Reward = Reward()
    rubric: Rubric = Rubric()
    salmon: Salmon = Salmon()
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    calibration: FilePath | None = Field(
        None, description="A calibration that rlaif audit fitted to this judge."
    )

    @model_validator(mode="after")
    def _engine_or_student(self) -> "JudgeConfig":
        if (self.model == "same-as-student") != (self.engine is None):
            raise ValueError("give engine and model, or only model: same-as-student")
        return self

    @model_validator(mode="after")
    def _settings_of_its_method(self) -> "JudgeConfig":
        for name in _METHODS:
            field = type(self).model_fields[name]
            if name != self.method and getattr(self, name) != field.default:
                raise ValueError(f"{name} has no effect: the method is {self.method}")
        return self

    @property
    def method_settings(self) -> Settings:
        """The settings of its method."""
        settings: Settings = getattr(self, self.method)
        return settings

    @property
    def shows_both(self) -> bool:
        """Whether both responses are shown together, so that there is an order to choose."""
        return self.method in ("pairwise", "salmon")

    @property
    def reads_labels(self) -> bool:
        """Whether verdicts have a label mass."""
        return self.method not in ("contrast", "reward") and not self.pairwise.words

    def plan(self) -> dict[str, Any]:
        """Return what determines judgments besides the engine; other methods' settings do not."""
        plan: dict[str, Any] = {
            "method": self.method,
            "weight": self.weight,
            self.method: self.method_settings.planned(),
        }
        if self.calibration is not None:
            plan["calibration"] = content_id("file", self.calibration.read_text("utf-8"))
        return plan


_METHODS = get_args(Method)

Relevance = Literal["off", "label", "model"]


def offering_neither(
    judges: Sequence[JudgeConfig], relevance: Relevance
) -> tuple[JudgeConfig, ...]:
    """Return the judges as they are asked: with ``relevance: label`` they may reply N.

    Raises:
        ValueError: One of them cannot.
    """
    if relevance != "label":
        return tuple(judges)
    for judge in judges:
        if judge.method != "pairwise" or judge.pairwise.chain_of_thought:
            raise ValueError(
                f"judge {judge.name!r}: relevance: label is for pairwise judges that reply at "
                "once: use relevance: model, or another method"
            )
    return tuple(
        judge.model_copy(update={"pairwise": judge.pairwise.model_copy(update={"neither": True})})
        for judge in judges
    )


def check_names(names: Sequence[str], kind: str = "judges") -> None:
    """Check that names differ.

    Raises:
        ValueError: Two are the same.
    """
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {kind} are named {name!r}: give each its own name")


def check_reading(judges: tuple[JudgeConfig, ...], *, orders: str, min_mass: float) -> None:
    """Check that ``orders`` and ``min_mass`` affect at least one judge.

    Raises:
        ValueError: One would be ignored, or a method cannot work with it.
    """
    if not judges:
        return
    if orders == "one":
        for judge in judges:
            if judge.method == "salmon":
                raise ValueError(
                    f"judge {judge.name!r}: salmon compares the judge's replies in both orders, "
                    "so orders: one leaves nothing to compare"
                )
        if not any(judge.shows_both for judge in judges):
            raise ValueError("orders: one has no effect: no judge is shown two responses")
    if min_mass not in (0.0, MIN_MASS) and not any(judge.reads_labels for judge in judges):
        raise ValueError("min_mass has no effect: no judge reads the probabilities of labels")
