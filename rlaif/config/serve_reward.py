"""The file of a reward server: what `rlaif serve-reward` is told."""

from typing import Annotated, Literal

from pydantic import Field

from rlaif.config.load import Settings
from rlaif.config.reward import LengthPenaltyConfig, RewardPartConfig

_Number = Annotated[float, Field(allow_inf_nan=False)]


class ServeRewardConfig(Settings):
    """Scorers behind HTTP; ``reward`` and ``length_penalty`` are those of a PPO file."""

    reward: RewardPartConfig | tuple[RewardPartConfig, ...] = Field(
        description="One scorer, or several whose weighted scores are added up."
    )
    length_penalty: LengthPenaltyConfig | None = None
    unscored: Literal["error"] | _Number = Field(
        "error",
        description="What OpenRLHF and verl, which can take no null, get for a response that no "
        "scorer could score: status 422 with the reason, or this number.",
    )
    port: int = Field(5000, ge=0, le=65535, description="0 takes a free one.")
    concurrency: int = Field(256, ge=1, description="Requests being scored at once.")
    max_waiting: int = Field(4096, ge=0, description="Requests beyond these are told 503.")
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
