"""Schemas of the files that measure: `rlaif audit`, `rlaif evaluate`, `rlaif loop`."""

from typing import Literal

from pydantic import Field, model_validator

from rlaif.config.judge import (
    MIN_MASS,
    JudgeConfig,
    MinMass,
    Relevance,
    check_names,
    check_reading,
    offering_neither,
)
from rlaif.config.load import (
    AskFirst,
    FilePath,
    GiveUpAfter,
    MaxFailedShare,
    NameOrFile,
    Settings,
    ShortName,
)
from rlaif.config.run import EngineConfig, PrinciplesConfig, PromptsConfig, SamplingConfig

PANEL = "panel"
"""The name under which results of all judges together are reported."""

BASELINE = "baseline"
"""In place of a model's name: the model that is the baseline."""


class AuditConfig(Settings):
    """The file of `rlaif audit`: which judges are audited, and with which questions."""

    judges: tuple[JudgeConfig, ...] = Field(min_length=1)
    constitution: NameOrFile | None = Field(
        None, description="A file, or the name of a shipped constitution; its rules play no part."
    )
    principle: str | None = Field(
        None, description="In place of a constitution: one statement that responses should follow."
    )
    principles: PrinciplesConfig = Field(
        PrinciplesConfig(choose="all"),
        description="How many principles of the constitution speak about each pair.",
    )
    templates: FilePath | None = Field(
        None, description="A folder whose files override shipped templates one by one."
    )
    seed: int = Field(0, ge=0)
    orders: Literal["both", "one"] = "both"
    min_mass: MinMass = MIN_MASS
    relevance: Relevance = Field(
        "off", description="As judging.relevance of a run; each judge is asked by itself."
    )
    repeats: int = Field(
        3, ge=1, description="How often a sampling judge gets the same question; 1 turns it off."
    )
    repeat_pairs: int = Field(20, ge=1, description="Pairs of each gold set that are repeated.")
    reuse: tuple[FilePath, ...] = Field(
        (), description="Run or audit folders whose ledgers answer first, at no cost."
    )
    concurrency: int = Field(16, ge=1, description="Pairs in flight at once.")
    give_up_after: GiveUpAfter = 20
    preflight: AskFirst = True
    max_failed_share: MaxFailedShare = 0.5
    out: FilePath | None = Field(None, description="The folder of results (or option --out).")

    @model_validator(mode="after")
    def _consistent(self) -> "AuditConfig":
        names = [judge.name for judge in self.judges]
        check_names(names)
        if PANEL in names:
            raise ValueError(f"a judge cannot be named {PANEL!r}: that stands for all together")
        if self.constitution is not None and self.principle is not None:
            raise ValueError("give a constitution or a principle, not both")
        if any(judge.engine is None for judge in self.judges):
            raise ValueError("an audit has no student: give each judge an engine and a model")
        check_reading(self.judges, orders=self.orders, min_mass=self.min_mass)
        offering_neither(self.judges, self.relevance)
        return self


class EvaluatedConfig(EngineConfig):
    """One of the models that are compared."""

    name: ShortName


class MatchesConfig(Settings):
    """How judges compare a model's responses with the baseline's."""

    compare: Literal["all", "baseline"] = Field(
        "baseline",
        description="Which models judges compare: each with the baseline, or all with each other, "
        "which asks for every further pair of models as much again.",
    )

    orders: Literal["both", "one"] = "both"
    principles: PrinciplesConfig = PrinciplesConfig()
    min_mass: MinMass = MIN_MASS


class RefusalsConfig(Settings):
    """How refusals are measured, besides by their phrases."""

    judge: str = Field(
        description="Name of one of judges: its model says of every response whether it refuses "
        "wholly, in part or not at all, in one call each.",
    )
    min_mass: MinMass = MIN_MASS


class EvaluateConfig(Settings):
    """The file of `rlaif evaluate`."""

    name: ShortName
    seed: int = Field(0, ge=0)
    prompts: PromptsConfig = Field(description="Held-out prompts, which training has not seen.")
    constitution: NameOrFile = Field(description="A file, or the name of a shipped constitution.")
    templates: FilePath | None = Field(
        None, description="A folder whose files override shipped templates one by one."
    )
    models: tuple[EvaluatedConfig, ...] = Field(min_length=1)
    baseline: str = Field(description="Name of the model that all others are compared with.")
    sampling: SamplingConfig = SamplingConfig()
    system: str = Field("", description="System message put before every prompt.")
    likelihood_under: str | None = Field(
        None,
        description="Model whose probabilities show whether text collapsed, or baseline.",
    )
    judges: tuple[JudgeConfig, ...] = Field(
        (),
        description="Judges of the principles that are not rules (default: measure rules only).",
    )
    judging: MatchesConfig = MatchesConfig()
    refusals: RefusalsConfig | None = Field(
        None, description="Refusals by a judge, beside the phrases (default: phrases only)."
    )
    correction: Literal["holm", "bh"] = Field(
        "holm",
        description="How p of all differences between models is adjusted for their number: holm, "
        "or bh (Benjamini and Hochberg), which finds more and lets 5 % of what it finds be false.",
    )
    reuse: tuple[FilePath, ...] = Field(
        (), description="Run or evaluation folders whose ledgers answer first, at no cost."
    )
    concurrency: int = Field(64, ge=1, description="Prompts in flight at once.")
    give_up_after: GiveUpAfter = 20
    preflight: AskFirst = True
    max_failed_share: MaxFailedShare = 0.5
    out: FilePath

    @model_validator(mode="after")
    def _names_are_known(self) -> "EvaluateConfig":
        names = [model.name for model in self.models]
        check_names(names, "models")
        check_names([judge.name for judge in self.judges])
        if self.baseline not in names:
            raise ValueError(
                f"baseline {self.baseline!r} is not one of the models: {', '.join(names)}"
            )
        if self.likelihood_under not in (None, BASELINE, *names):
            raise ValueError(
                f"likelihood_under {self.likelihood_under!r} is not one of the models: "
                f"{', '.join(names)}"
            )
        if "judging" in self.model_fields_set and not self.judges:
            raise ValueError("judging has no effect: judges is empty")
        judges = [judge.name for judge in self.judges]
        if self.refusals is not None and self.refusals.judge not in judges:
            raise ValueError(
                f"refusals.judge {self.refusals.judge!r} is not one of the judges: "
                f"{', '.join(judges) or 'there are none'}"
            )
        if any(judge.engine is None for judge in self.judges):
            raise ValueError("an evaluation has no student: give each judge an engine and a model")
        check_reading(self.judges, orders=self.judging.orders, min_mass=self.judging.min_mass)
        return self

    @property
    def likelihood_model(self) -> str | None:
        """The model whose probabilities are computed; None turns that off."""
        if self.likelihood_under in [model.name for model in self.models]:
            return self.likelihood_under
        return None if self.likelihood_under is None else self.baseline


class LoopConfig(Settings):
    """The file of `rlaif loop`: rounds of generate, train, evaluate, promote or not."""

    name: ShortName
    rounds: int = Field(2, ge=1, le=100)
    run: FilePath = Field(description="The run file of every round; its student is replaced.")
    train: FilePath = Field(description="The DPO file of every round; its data set is replaced.")
    evaluate: FilePath = Field(description="The evaluation file; its models are replaced.")
    measure: str = Field(
        "rules", description="The measure of the scorecard that decides promotion."
    )
    direction: Literal["up", "down"] | None = Field(
        None,
        description="Which way is better (default: as the measure says; needed where it says "
        "neither).",
    )
    min_gain: float = Field(
        0.0, ge=0, description="The interval of the difference must lie beyond this."
    )
    stop_after: int = Field(
        2, ge=1, description="Stop after this many rounds in a row without a promotion."
    )
    out: FilePath
