"""The evaluation file: what `rlaif evaluate eval.yaml` is told."""

from typing import Literal

from pydantic import Field, model_validator

from rlaif.config.judge import JudgeConfig, check_reading
from rlaif.config.load import FilePath, NameOrFile, Settings, ShortName
from rlaif.config.run import (
    EngineConfig,
    PrinciplesConfig,
    PromptsConfig,
    SamplingConfig,
)

BASELINE = "baseline"
"""In place of a model's name: whichever model is the baseline."""


class EvaluatedConfig(EngineConfig):
    """One of the models that are compared."""

    name: ShortName


class MatchesConfig(Settings):
    """How judges compare a model's responses with the baseline's."""

    orders: Literal["both", "one"] = "both"
    principles: PrinciplesConfig = PrinciplesConfig()
    min_mass: float = Field(
        0.0, ge=0, le=1, description="Label mass below this makes a verdict an abstention."
    )


class EvaluateConfig(Settings):
    """A whole evaluation."""

    name: ShortName
    seed: int = Field(0, ge=0)
    prompts: PromptsConfig = Field(description="Held-out prompts: none that was trained on.")
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
        description="Model whose probabilities show whether text collapsed; or: baseline.",
    )
    judges: tuple[JudgeConfig, ...] = Field(
        (), description="Judges of the principles that are not rules; none leaves them out."
    )
    judging: MatchesConfig = MatchesConfig()
    reuse: tuple[FilePath, ...] = Field(
        (), description="Run or evaluation folders whose ledgers answer first, at no cost."
    )
    concurrency: int = Field(64, ge=1, description="Prompts in flight at once.")
    give_up_after: int = Field(
        20,
        ge=0,
        description="Stop when so many first calls of a kind failed for the same reason and none "
        "succeeded; 0: never.",
    )
    out: FilePath

    @model_validator(mode="after")
    def _names_are_known(self) -> "EvaluateConfig":
        names = [model.name for model in self.models]
        for kind, given in (("models", names), ("judges", [j.name for j in self.judges])):
            for name in given:
                if given.count(name) > 1:
                    raise ValueError(f"two {kind} are named {name!r}: give each a name of its own")
        if self.baseline not in names:
            raise ValueError(f"baseline {self.baseline!r} is none of {', '.join(names)}")
        if self.likelihood_under not in (None, BASELINE, *names):
            raise ValueError(
                f"likelihood_under {self.likelihood_under!r} is none of {', '.join(names)}"
            )
        if "judging" in self.model_fields_set and not self.judges:
            raise ValueError("judging has no effect, no judge is named")
        if any(judge.engine is None for judge in self.judges):
            raise ValueError("an evaluation has no student: give each judge an engine and a model")
        check_reading(self.judges, orders=self.judging.orders, min_mass=self.judging.min_mass)
        return self

    @property
    def likelihood_model(self) -> str | None:
        """The name of the model that ``likelihood_under`` means."""
        if self.likelihood_under in [model.name for model in self.models]:
            return self.likelihood_under
        return None if self.likelihood_under is None else self.baseline
