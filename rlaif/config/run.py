"""Schema of the run file read by `rlaif generate`."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from rlaif.config.judge import (
    MIN_MASS,
    JudgeConfig as JudgeConfig,
    MinMass,
    Relevance,
    check_names,
    check_reading,
    offering_neither,
)
from rlaif.config.load import (
    AskFirst,
    FilePath,
    FolderOrUrl,
    GiveUpAfter,
    MaxFailedShare,
    ModelName,
    NameOrFile,
    Settings,
    ShortName,
)
from rlaif.config.prompts import PromptsConfig as PromptsConfig


class GateConfig(Settings):
    """Minimum accuracy that judges must have shown in an audit, unless overridden by name."""

    audit: FilePath = Field(description="The audit.json that rlaif audit wrote.")
    min_accuracy: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        min_length=1, description="Gold set (its file name without ending) to least accuracy."
    )
    by: Literal["bound", "estimate"] = Field(
        "bound",
        description="bound: the lower end of the 95 % interval must reach the minimum; "
        "estimate: the point estimate must.",
    )
    override: tuple[str, ...] = Field(
        (), description="Judges that may label without passing; the data card then says so."
    )


class SamplingConfig(Settings):
    """How responses are drawn."""

    n: int = Field(2, ge=1, le=1024, description="Responses per prompt.")
    temperature: float = Field(1.0, ge=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(256, ge=1)
    stop: tuple[str, ...] = ()
    extra: dict[str, Any] = Field(default_factory=dict)


class StudentSamplingConfig(SamplingConfig):
    """How the student's responses are drawn."""

    strategy: Literal["plain", "contrast"] = Field(
        "plain",
        description="contrast: half of them under a principle, half under its opposite (RLCD).",
    )

    @model_validator(mode="after")
    def _even(self) -> "StudentSamplingConfig":
        if self.strategy == "contrast" and self.n % 2:
            raise ValueError("strategy: contrast draws responses in twos, so n must be even")
        return self


class EngineConfig(Settings):
    """One model behind one engine."""

    engine: Literal["transformers", "openai", "vllm", "scripted"]
    model: ModelName = Field(description="A shipped name, a folder, a hub id or a served name.")
    revision: str | None = None
    base_url: str | None = None
    api_key_env: str | None = Field(
        None, description="Name of the environment variable that holds the key."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Engine-specific options; unknown ones are errors."
    )


class StudentConfig(EngineConfig):
    """The model whose responses are judged; the policy once it is trained."""

    sampling: StudentSamplingConfig = StudentSamplingConfig()
    system: str = Field("", description="System message put before every prompt.")


class KConfig(Settings):
    """Draw k principles."""

    k: int = Field(ge=1)


class PrinciplesConfig(Settings):
    """How many of the constitution's judged principles speak about one comparison."""

    choose: Literal["one", "all"] | KConfig = "one"

    @property
    def how_many(self) -> Literal["one", "all"] | int:
        """``one``, ``all``, or the number of principles that are drawn."""
        return self.choose.k if isinstance(self.choose, KConfig) else self.choose


class CanaryConfig(Settings):
    """Known pairs, the principles' own examples, mixed in to watch the judges."""

    share: float = Field(gt=0, le=1, description="Known pairs per comparison, such as 0.05.")


class JudgingConfig(Settings):
    """Which comparisons are judged, and how verdicts are read."""

    comparisons: Literal["all-pairs", "random", "contrast"] = "all-pairs"
    max_length_ratio: float | None = Field(
        None, ge=1, description="Responses whose lengths in words differ by more are not compared."
    )
    label: Literal["judges", "construction"] = Field(
        "judges",
        description="construction: the response sampled under the principle is better (RLCD).",
    )
    orders: Literal["both", "one"] = "both"
    principles: PrinciplesConfig = PrinciplesConfig()
    min_mass: MinMass = MIN_MASS
    relevance: Relevance = Field(
        "off",
        description="Whether a principle must have something to say about a prompt. label: "
        "pairwise judges may reply that it has not; model: the first judge is asked for every "
        "prompt and principle, and principles are drawn among those that apply.",
    )
    max_disagreement: float | None = Field(
        None, gt=0, lt=1, description="Largest spread between the judges' preferences."
    )
    on_disagreement: Literal["drop", "soften"] = Field(
        "drop", description="Above it: make no pair, or draw the preference towards one half."
    )
    fit: Literal["bradley-terry"] | None = Field(
        None, description="Replace preferences by those of strengths fitted to the group."
    )
    canary: CanaryConfig | None = None
    calibration: FilePath | None = Field(
        None, description="A calibration that rlaif audit fitted to the panel of all judges."
    )

    IMPLIED: ClassVar = {"relevance": "off"}

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> "JudgingConfig":
        if self.on_disagreement != "drop" and self.max_disagreement is None:
            raise ValueError("on_disagreement has no effect without max_disagreement")
        if self.fit is not None and self.comparisons != "all-pairs":
            raise ValueError("fit needs comparisons: all-pairs; otherwise there is nothing to fit")
        if self.label == "construction" and self.comparisons != "contrast":
            raise ValueError("label: construction needs comparisons: contrast")
        if self.comparisons == "contrast" and self.relevance == "model":
            raise ValueError(
                "relevance: model has no effect: with comparisons: contrast two responses are "
                "judged under the principle they were sampled for and against"
            )
        if self.comparisons == "contrast" and self.principles.choose != "one":
            raise ValueError(
                "principles has no effect: with comparisons: contrast two responses are judged "
                "under the principle they were sampled for and against"
            )
        return self


class PairingConfig(Settings):
    """How judgments become preference pairs."""

    strategy: Literal["all-pairs", "best-vs-random", "best-vs-worst", "random"] = "best-vs-worst"
    min_margin: float = Field(0.0, ge=0, le=1)
    length_tiers: float | None = Field(
        None,
        gt=0,
        lt=0.5,
        description="best-vs-worst: choose the shortest within this of the best rank, and reject "
        "the longest within this of the worst.",
    )

    @model_validator(mode="after")
    def _tiers_of_a_ranking(self) -> "PairingConfig":
        if self.length_tiers is not None and self.strategy != "best-vs-worst":
            raise ValueError("length_tiers has no effect: the strategy is not best-vs-worst")
        return self


class ReviseConfig(Settings):
    """Critique and revision (SL-CAI). 0 rounds turns it off."""

    rounds: int = Field(0, ge=0)
    critic: Literal["same-as-student"] | EngineConfig = "same-as-student"
    only_if_found: bool = Field(
        False, description="Skip the revision when the critique found nothing."
    )
    max_tokens: int = Field(256, ge=1)
    temperature: float = Field(1.0, ge=0, le=10)


class BudgetConfig(Settings):
    """What a run may spend over all its starts; at the limit it stops and can be resumed."""

    max_price: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="In US dollars, or the currency of the configured prices.",
    )
    max_calls: int | None = Field(None, ge=1, description="Model calls.")
    max_tokens: int | None = Field(
        None, ge=1, description="Tokens of prompts and completions together."
    )

    @model_validator(mode="after")
    def _limits_something(self) -> "BudgetConfig":
        if (self.max_price, self.max_calls, self.max_tokens) == (None, None, None):
            raise ValueError("give max_price, max_calls or max_tokens")
        return self


class RayConfig(Settings):
    """How ``--executor ray`` spreads a run. Limits stay those of the whole run; no row changes."""

    workers: int | None = Field(
        None,
        ge=1,
        description="Number of workers (default: one per GPU that is used, else one per two CPU "
        "cores).",
    )
    cpus: float = Field(1.0, gt=0, allow_inf_nan=False, description="CPU cores of a worker.")
    gpus: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="GPUs of a worker (default: 1 if a model runs in the worker, else 0).",
    )
    portion: int = Field(16, ge=1, description="Prompts handed to a worker at a time.")


class RunConfig(Settings):
    """The run file."""

    name: ShortName
    seed: int = Field(0, ge=0)
    prompts: PromptsConfig
    constitution: NameOrFile = Field(description="A file, or the name of a shipped constitution.")
    templates: FilePath | None = Field(
        None, description="A folder whose files override shipped templates one by one."
    )
    student: StudentConfig
    revise: ReviseConfig = ReviseConfig()
    judges: tuple[JudgeConfig, ...] = ()
    judging: JudgingConfig = JudgingConfig()
    pairing: PairingConfig = PairingConfig()
    gate: GateConfig | None = Field(
        None,
        description="Accuracy that the judges must have shown in an audit before they may label.",
    )
    reuse: tuple[FolderOrUrl, ...] = Field(
        (), description="Run directories whose ledgers answer first, at no cost."
    )
    budget: BudgetConfig | None = Field(
        None,
        description="Stops the run when it is used up; raise it and repeat the command to resume.",
    )
    concurrency: int = Field(64, ge=1, description="Prompts in flight at once.")
    give_up_after: GiveUpAfter = 20
    preflight: AskFirst = True
    max_failed_share: MaxFailedShare = 0.5
    shard_rows: int = Field(1000, ge=1, description="Rows per shard.")
    ray: RayConfig = RayConfig()
    out: FolderOrUrl = Field(description="A folder, or a URL such as s3://bucket/run.")

    @property
    def asked_judges(self) -> tuple[JudgeConfig, ...]:
        """The judges as they are asked, with what ``judging.relevance`` changes."""
        return offering_neither(self.judges, self.judging.relevance)

    @model_validator(mode="after")
    def _names_differ(self) -> "RunConfig":
        check_names([judge.name for judge in self.judges])
        return self

    @model_validator(mode="after")
    def _gate_has_judges(self) -> "RunConfig":
        if self.gate is not None and not self.judges:
            raise ValueError("gate has no effect: judges is empty")
        return self

    @model_validator(mode="after")
    def _judging_reaches_judges(self) -> "RunConfig":
        judging = self.judging
        check_reading(self.judges, orders=judging.orders, min_mass=judging.min_mass)
        if judging.relevance != "off" and not self.judges:
            raise ValueError("judging.relevance has no effect without judges")
        offering_neither(self.judges, judging.relevance)
        if judging.max_disagreement is not None and len(self.judges) < 2:
            raise ValueError("judging.max_disagreement has no effect with fewer than two judges")
        if judging.calibration is not None and len(self.judges) < 2:
            raise ValueError(
                "judging.calibration is for a panel: with one judge, name it under judges:"
            )
        if judging.canary is not None and not self.judges:
            raise ValueError("judging.canary has no effect without judges")
        if judging.label == "construction" and self.judges:
            raise ValueError("judges has no effect: judging.label: construction uses no judge")
        return self

    @model_validator(mode="after")
    def _contrast_is_whole(self) -> "RunConfig":
        contrasted = self.student.sampling.strategy == "contrast"
        if self.judging.comparisons == "contrast" and not contrasted:
            raise ValueError(
                "judging.comparisons: contrast needs student.sampling.strategy: contrast"
            )
        if contrasted and self.revise.rounds > 0:
            raise ValueError(
                "student.sampling.strategy: contrast and revise exclude each other: the revision "
                "of a response meant to break a principle is neither for nor against it"
            )
        return self
