"""Judges as a reward: what they are asked about each response, for training and for a server."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from rlaif.config.judge import JudgeConfig, check_reading
from rlaif.config.load import FilePath, NameOrFile, Settings
from rlaif.config.run import PrinciplesConfig

ABSOLUTE = ("pointwise", "reward", "rubric")
"""Methods that score a response by itself."""


class JudgedConfig(Settings):
    """A panel of judges that scores responses one by one (direct RLAIF)."""

    judges: tuple[JudgeConfig, ...] = Field(min_length=1)
    constitution: NameOrFile = Field(
        description="A file, or the name of a shipped constitution; its rules play no part here."
    )
    principles: PrinciplesConfig = Field(
        PrinciplesConfig(choose="all"),
        description="How many principles speak; drawn by prompt: its responses share them.",
    )
    against: Literal["nothing", "reference"] = Field(
        "nothing",
        description="nothing: log-odds strength of the response itself; reference: P(better than "
        "the response in the column reference).",
    )
    templates: FilePath | None = Field(
        None, description="A folder whose files override shipped templates one by one."
    )
    seed: int = Field(0, ge=0)
    orders: Literal["both", "one"] = "both"
    min_mass: float = Field(
        0.0, ge=0, le=1, description="Label mass below this makes a verdict an abstention."
    )
    reuse: tuple[FilePath, ...] = Field(
        (), description="Run folders whose ledgers answer first, at no cost."
    )
    concurrency: int = Field(64, ge=1, description="Responses being judged at once.")
    give_up_after: int = Field(
        20,
        ge=0,
        description="Stop when so many first calls of a kind failed for the same reason and none "
        "succeeded; 0: never.",
    )
    out: FilePath = Field(description="The folder of the ledger: equal texts are asked once.")

    INERT: ClassVar = frozenset({"reuse", "concurrency", "give_up_after", "out"})

    @model_validator(mode="after")
    def _consistent(self) -> "JudgedConfig":
        names = [judge.name for judge in self.judges]
        for judge in self.judges:
            if names.count(judge.name) > 1:
                raise ValueError(
                    f"two judges are named {judge.name!r}: give each a name of its own"
                )
            if judge.engine is None:
                raise ValueError("a reward has no student: give each judge an engine and a model")
            if self.against == "nothing" and judge.method not in ABSOLUTE:
                raise ValueError(
                    f"judge {judge.name!r}: {judge.method} compares two responses: set against: "
                    f"reference, or one of the methods {', '.join(ABSOLUTE)}"
                )
        check_reading(self.judges, orders=self.orders, min_mass=self.min_mass)
        return self
