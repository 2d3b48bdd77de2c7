"""The loop file: what `rlaif loop loop.yaml` is told."""

from typing import Literal

from pydantic import Field

from rlaif.config.load import FilePath, Settings, ShortName


class LoopConfig(Settings):
    """Rounds of generate, train, evaluate; each promotes its checkpoint or leaves it."""

    name: ShortName
    rounds: int = Field(2, ge=1, le=100)
    run: FilePath = Field(description="The run file of every round; its student is replaced.")
    train: FilePath = Field(description="The DPO file of every round; its data set is replaced.")
    evaluate: FilePath = Field(description="The evaluation file; its models are replaced.")
    measure: str = Field(
        "rules", description="The measure of the scorecard that decides about promotion."
    )
    direction: Literal["up", "down"] = Field("up", description="Which way is better.")
    min_gain: float = Field(
        0.0, ge=0, description="The interval of the difference must lie beyond this."
    )
    stop_after: int = Field(
        2, ge=1, description="Stop after this many rounds in a row without a promotion."
    )
    out: FilePath
