"""Scorers by name, judges as a reward, and the file of `rlaif serve-reward`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from rlaif.config.judge import MIN_MASS, JudgeConfig, MinMass, check_names, check_reading
from rlaif.config.load import AskFirst, FilePath, GiveUpAfter, ModelName, NameOrFile, Settings
from rlaif.config.run import PrinciplesConfig

_Number = Annotated[float, Field(allow_inf_nan=False)]

ABSOLUTE = ("pointwise", "reward", "rubric")
"""Methods that score a single response."""


class JudgedConfig(Settings):
    """A panel of judges that scores responses one by one (direct RLAIF)."""

    judges: tuple[JudgeConfig, ...] = Field(min_length=1)
    constitution: NameOrFile = Field(
        description="A file, or the name of a shipped constitution; its rules play no part here."
    )
    principles: PrinciplesConfig = Field(
        PrinciplesConfig(choose="all"),
        description="How many principles speak; drawn per prompt, so its responses share them.",
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
    min_mass: MinMass = MIN_MASS
    reuse: tuple[FilePath, ...] = Field(
        (), description="Run folders whose ledgers answer first, at no cost."
    )
    concurrency: int = Field(64, ge=1, description="Responses being judged at once.")
    give_up_after: GiveUpAfter = 20
    preflight: AskFirst = True
    out: FilePath = Field(description="The folder of the ledger: equal texts are scored once.")

    INERT: ClassVar = frozenset({"reuse", "concurrency", "give_up_after", "preflight", "out"})

    @model_validator(mode="after")
    def _consistent(self) -> "JudgedConfig":
        check_names([judge.name for judge in self.judges])
        for judge in self.judges:
            if judge.engine is None:
                raise ValueError("a reward has no student: give each judge an engine and a model")
            if self.against == "nothing" and judge.method not in ABSOLUTE:
                raise ValueError(
                    f"judge {judge.name!r}: {judge.method} compares two responses: set against: "
                    f"reference, or one of the methods {', '.join(ABSOLUTE)}"
                )
        check_reading(self.judges, orders=self.orders, min_mass=self.min_mass)
        return self


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
        None, description="The reward model's chat template (default: its tokenizer's)."
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
    """Score that a long response loses."""

    per_word: float = Field(gt=0, allow_inf_nan=False)
    free_words: int = Field(0, ge=0, description="Words that cost nothing.")


class ServeRewardConfig(Settings):
    """The file of `rlaif serve-reward`: scorers behind HTTP, written as in a PPO file."""

    reward: RewardPartConfig | tuple[RewardPartConfig, ...] = Field(
        description="One scorer, or several whose weighted scores are added up."
    )
    length_penalty: LengthPenaltyConfig | None = None
    unscored: Literal["error"] | _Number = Field(
        "error",
        description="What OpenRLHF and verl, which do not accept null, receive for a response that "
        "no scorer could score: status 422 with the reason, or this number.",
    )
    port: int = Field(5000, ge=0, le=65535, description="0: any free port.")
    concurrency: int = Field(256, ge=1, description="Requests being scored at once.")
    max_waiting: int = Field(4096, ge=0, description="Requests beyond these receive 503.")
    max_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="Largest request.")
    read_seconds: float = Field(
        30.0, gt=0, allow_inf_nan=False, description="How long a request may take to arrive."
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="Names besides 127.0.0.1 and localhost by which the server may be addressed, "
        "such as a proxy's.",
    )
    timeout: float = Field(
        170.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds for one request; OpenRLHF gives up after 180.",
    )
    drain_seconds: float = Field(
        60.0, ge=0, description="How long requests in flight may finish after SIGTERM."
    )
    special_tokens: tuple[str, ...] = Field(
        (), description="Of the policy's tokenizer, besides the usual ones."
    )
