"""The gate of a run file: what a judge must have shown before it may label."""

from typing import Annotated, Literal

from pydantic import Field

from rlaif.config.load import FilePath, Settings


class GateConfig(Settings):
    """A judge below the minimum refuses to label, unless it is overridden by name."""

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
        (), description="Judges that may label all the same; the data card then says so."
    )
