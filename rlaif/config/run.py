"""The run file: what `rlaif generate run.yaml` is told."""

from typing import Any, Literal

from pydantic import Field, model_validator

from rlaif.config.gate import GateConfig
from rlaif.config.judge import JudgeConfig as JudgeConfig, check_reading
from rlaif.config.load import FilePath, NameOrPath, Settings


class PromptsConfig(Settings):
    """Where prompts come from: exactly one of ``path`` and ``hub``."""

    path: FilePath | None = None
    hub: str | None = Field(None, description="owner/name on the Hugging Face hub.")
    split: str = "train"
    column: str = "prompt"
    id_column: str | None = Field(None, description="Absent: the id comes from the content.")
    tags_column: str | None = None
    tags: tuple[str, ...] = Field((), description="Tags added to every prompt.")
    limit: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_source(self) -> "PromptsConfig":
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of path and hub")
        return self


class SamplingConfig(Settings):
    """How responses are drawn."""

    n: int = Field(2, ge=1, le=1024, description="Responses per prompt.")
    temperature: float = Field(1.0, ge=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(256, ge=1)
    stop: tuple[str, ...] = ()
    extra: dict[str, Any] = Field(default_factory=dict)


class EngineConfig(Settings):
    """One model behind one engine."""

    engine: Literal["transformers", "openai", "scripted"]
    model: NameOrPath = Field(description="A shipped name, a folder, a hub id or a served name.")
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

    sampling: SamplingConfig = SamplingConfig()
    system: str = Field("", description="System message put before every prompt.")


class KConfig(Settings):
    """Draw k principles."""

    k: int = Field(ge=1)


class PrinciplesConfig(Settings):
    """How many of the constitution's judged principles speak about one comparison."""

    choose: Literal["one", "all"] | KConfig = "one"


class JudgingConfig(Settings):
    """Which comparisons are judged, and how verdicts are read."""

    comparisons: Literal["all-pairs", "random"] = "all-pairs"
    orders: Literal["both", "one"] = "both"
    principles: PrinciplesConfig = PrinciplesConfig()
    min_mass: float = Field(
        0.0, ge=0, le=1, description="Label mass below this makes a verdict an abstention."
    )


class PairingConfig(Settings):
    """How judgments become preference pairs."""

    strategy: Literal["all-pairs", "best-vs-worst", "random"] = "best-vs-worst"
    min_margin: float = Field(0.0, ge=0, le=1)


class ReviseConfig(Settings):
    """Critique and revision (SL-CAI). 0 rounds turns it off."""

    rounds: int = Field(0, ge=0)
    critic: Literal["same-as-student"] | EngineConfig = "same-as-student"
    only_if_found: bool = Field(
        False, description="Skip the revision when the critique found nothing."
    )
    max_tokens: int = Field(256, ge=1)
    temperature: float = Field(1.0, ge=0, le=10)


class RunConfig(Settings):
    """A whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: int = Field(0, ge=0)
    prompts: PromptsConfig
    constitution: NameOrPath = Field(description="A file, or the name of a shipped constitution.")
    templates: FilePath | None = Field(
        None, description="A folder whose files override shipped templates one by one."
    )
    student: StudentConfig
    revise: ReviseConfig = ReviseConfig()
    judges: tuple[JudgeConfig, ...] = ()
    judging: JudgingConfig = JudgingConfig()
    pairing: PairingConfig = PairingConfig()
    gate: GateConfig | None = Field(
        None, description="What the judges must have shown in an audit before they may label."
    )
    reuse: tuple[FilePath, ...] = Field(
        (), description="Run directories whose ledgers answer first, at no cost."
    )
    concurrency: int = Field(64, ge=1, description="Prompts in flight at once.")
    shard_rows: int = Field(1000, ge=1, description="Rows per shard.")
    out: FilePath

    @model_validator(mode="after")
    def _names_differ(self) -> "RunConfig":
        names = [judge.name for judge in self.judges]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two judges are named {name!r}: give each a name of its own")
        return self

    @model_validator(mode="after")
    def _gate_has_judges(self) -> "RunConfig":
        if self.gate is not None and not self.judges:
            raise ValueError("gate: has no effect, no judge is named")
        return self

    @model_validator(mode="after")
    def _judging_reaches_judges(self) -> "RunConfig":
        check_reading(self.judges, orders=self.judging.orders, min_mass=self.judging.min_mass)
        return self
