"""The audit file: what `rlaif audit judge.yaml` is told."""

from typing import Literal

from pydantic import Field, model_validator

from rlaif.config.judge import JudgeConfig, check_reading
from rlaif.config.load import FilePath, NameOrFile, Settings
from rlaif.config.run import PrinciplesConfig

PANEL = "panel"
"""The name under which all judges together are reported."""


class AuditConfig(Settings):
    """Which judges are audited, and what they are asked."""

    judges: tuple[JudgeConfig, ...] = Field(min_length=1)
    constitution: NameOrFile | None = Field(
        None, description="A file, or the name of a shipped constitution; its rules play no part."
    )
    principle: str | None = Field(
        None, description="In place of a constitution: one statement that responses should keep."
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
    min_mass: float = Field(
        0.0, ge=0, le=1, description="Label mass below this makes a verdict an abstention."
    )
    repeats: int = Field(
        3, ge=1, description="How often a judge that samples is asked the same; 1 turns it off."
    )
    repeat_pairs: int = Field(20, ge=1, description="Pairs of each gold set that are repeated.")
    reuse: tuple[FilePath, ...] = Field(
        (), description="Run or audit folders whose ledgers answer first, at no cost."
    )
    concurrency: int = Field(16, ge=1, description="Pairs in flight at once.")
    give_up_after: int = Field(
        20,
        ge=0,
        description="Stop when so many first calls of a kind failed for the same reason and none "
        "succeeded; 0: never.",
    )
    out: FilePath | None = Field(None, description="Where results go; --out names it too.")

    @model_validator(mode="after")
    def _consistent(self) -> "AuditConfig":
        names = [judge.name for judge in self.judges]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two judges are named {name!r}: give each a name of its own")
        if PANEL in names:
            raise ValueError(f"no judge can be named {PANEL!r}: all together are reported by it")
        if self.constitution is not None and self.principle is not None:
            raise ValueError("give a constitution or a principle, not both")
        if any(judge.engine is None for judge in self.judges):
            raise ValueError("an audit has no student: give each judge an engine and a model")
        check_reading(self.judges, orders=self.orders, min_mass=self.min_mass)
        return self
