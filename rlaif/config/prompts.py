"""The prompts of a run or an evaluation: their source, their columns, what is left out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator, model_validator

from rlaif.config.explain import spelled
from rlaif.config.load import NameOrPath, PathOrAddress, Settings

FileKind = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow"]

_PART = spelled(r"[1-9]\d*/[1-9]\d*", "write the part and the number of parts, such as 3/16")


def _default(settings: Settings, name: str) -> object:
    return type(settings).model_fields[name].default


class DedupConfig(Settings):
    """Leave out prompts that repeat an earlier one. The first in the order of input stays."""

    method: Literal["exact", "near"] = Field(
        "exact",
        description="exact: the same messages except for white space. near: similar ones too.",
    )
    threshold: float = Field(
        0.8, gt=0, le=1, description="near: a prompt is left out from this Jaccard similarity on."
    )
    ngram: int = Field(5, ge=1, le=64, description="near: characters compared at a time.")
    permutations: int = Field(
        128,
        ge=16,
        le=1024,
        description="near: more are more accurate and take more memory and time.",
    )

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> "DedupConfig":
        names = ("threshold", "ngram", "permutations")
        given = [name for name in names if getattr(self, name) != _default(self, name)]
        if self.method == "exact" and given:
            raise ValueError(f"{', '.join(given)} has no effect without method: near")
        return self


class DecontaminateConfig(Settings):
    """Leave out prompts that contain what a model is to be evaluated on."""

    against: tuple[PathOrAddress, ...] = Field(
        description="Evaluation sets: files, folders, patterns or addresses."
    )
    columns: tuple[str, ...] | None = Field(
        None, description="Columns of the evaluation sets to look for (default: all their text)."
    )
    ngram: int = Field(8, ge=1, le=64, description="Words in a row that count as one match.")
    threshold: float = Field(
        0.5, gt=0, le=1, description="Share of a test item's n-grams that the prompt holds."
    )

    @field_validator("against")
    @classmethod
    def _names_one(cls, against: tuple[str, ...]) -> tuple[str, ...]:
        # No `min_length`: its message would repeat an address refused for its password.
        if not against:
            raise ValueError("name at least one evaluation set")
        return against


_SHOWN_ITEMS = 100


def _short(digits: str) -> int | str:
    """Return an integer, or its digits if a manifest cannot hold it as a number."""
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else digits


class PromptsConfig(Settings):
    """Where prompts come from: exactly one of ``path``, ``hub`` and ``items``.

    A list in place of these keys stands for ``items``.
    """

    path: PathOrAddress | None = Field(
        None, description="A file, a folder, a pattern, or an address such as s3://bucket/*.jsonl."
    )
    format: FileKind | None = Field(None, description="File format (default: from the file names).")
    hub: NameOrPath | None = Field(
        None, description="owner/name on the Hugging Face hub, or a folder laid out like one."
    )
    items: tuple[Any, ...] | None = Field(
        None, description="The prompts themselves: texts, conversations, or records with columns."
    )
    config: str | None = Field(None, description="Configuration of the hub data set.")
    revision: str | None = Field(None, description="Branch, tag or commit of the hub data set.")
    streaming: bool = Field(True, description="hub: read while downloading; false downloads first.")
    split: str = "train"
    column: str | None = Field(
        None,
        description="Dots lead into nested columns (default: the one of messages, prompt, "
        "instruction and question that the records have).",
    )
    id_column: str | None = Field(
        None, description="Column of ids (default: ids are derived from the content)."
    )
    tags_column: str | None = None
    tools_column: str | None = Field(
        None, description="Definitions of the tools a conversation has: a list, or its JSON text."
    )
    ignore_columns: tuple[str, ...] = Field(
        (),
        description="Columns to leave out on purpose, such as images: a record that has text or "
        "media for the model there fails otherwise.",
    )
    tags: tuple[str, ...] = Field((), description="Tags added to every prompt.")
    drop_last_reply: bool = Field(
        False, description="Leave out the assistant's messages at the end of a conversation."
    )
    limit: int | None = Field(None, ge=1)
    partition: Annotated[str, _PART] | None = Field(
        None,
        description="3/16: the third of sixteen parts of the input, by id; for job arrays.",
    )
    dedup: DedupConfig | None = None
    decontaminate: DecontaminateConfig | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "PromptsConfig":
        if [self.path, self.hub, self.items].count(None) != 2:
            raise ValueError("give exactly one of path, hub and items")
        if self.items is not None and not self.items:
            raise ValueError("the list of prompts is empty")
        if self.hub is None:
            self._without_effect("hub", "config", "revision", "streaming")
        if self.path is None:
            self._without_effect("path", "format")
        return self

    @field_serializer("items", when_used="json")
    def _shown_items(self, items: tuple[Any, ...] | None) -> list[Any] | None:
        """Return the first ones as JSON, for people to read in a manifest."""
        if items is None:
            return None
        text = json.dumps(items[:_SHOWN_ITEMS], ensure_ascii=False, default=str)
        plain = text.encode(errors="replace")
        shown: list[Any] = json.loads(plain, parse_int=_short, parse_constant=str)
        more = len(items) - len(shown)
        return [*shown, f"… and {more} more"] if more else shown

    @model_validator(mode="after")
    def _part_of_whole(self) -> "PromptsConfig":
        if self.partition is not None:
            part, of = map(int, self.partition.split("/"))
            if part > of:
                raise ValueError(f"partition: part {part} of {of} does not exist")
        return self

    def _without_effect(self, without: str, *names: str) -> None:
        given = [name for name in names if getattr(self, name) != _default(self, name)]
        if given:
            raise ValueError(f"{', '.join(given)} has no effect without {without}")

    def filters(self) -> dict[str, object]:
        """Return the settings that decide which prompts are left out; empty when none do."""
        chosen: dict[str, object] = {}
        if self.dedup is not None:
            exact = {"method"} if self.dedup.method == "exact" else None
            chosen["dedup"] = self.dedup.model_dump(mode="json", include=exact)
        if self.decontaminate is not None:
            chosen["decontaminate"] = self.decontaminate.model_dump(
                mode="json", exclude={"against"}
            )
        return chosen


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Exactly one of ``path``, ``hub`` and ``items``, and how to read it.

    The fields mean what the keys of `rlaif.config.prompts.PromptsConfig` mean:
    ``PromptSource(**dict(settings.prompts))``.
    """

    path: str | Path | None = None
    """A file, a folder, a pattern, or an address."""

    format: FileKind | None = None
    hub: str | None = None
    items: tuple[Any, ...] | None = None
    config: str | None = None
    revision: str | None = None
    streaming: bool = True
    split: str = "train"
    column: str | None = None
    """When None, `rlaif.inputs.columns.guess_column` finds it."""

    id_column: str | None = None
    tags_column: str | None = None
    tools_column: str | None = None
    ignore_columns: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    drop_last_reply: bool = False
    limit: int | None = None
    """Maximum number of records read, including invalid ones and those left out."""

    partition: str | None = None
    """``3/16``: only the third of sixteen parts. The id of a record decides its part."""

    dedup: DedupConfig | None = None
    decontaminate: DecontaminateConfig | None = None

    @property
    def other_columns(self) -> tuple[str, ...]:
        """Every column that is read besides that of the prompts."""
        named = (self.id_column, self.tags_column, self.tools_column)
        return tuple(column for column in named if column is not None)

    @property
    def name(self) -> str:
        """The name of the source in messages."""
        return str(self.path or self.hub or "prompts")
