"""What an export format is: for each kind of record its columns, and the files beside the data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from rlaif.runs import tables

Record = dict[str, Any]

DATA_FILE = "data/train-00000-of-00001.parquet"

MARKS = ("prompt_id", "constitution", "run", tables.TOOLS)
"""Columns that every export keeps: where a record comes from, and the tools it has."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of record in one format."""

    schema: pa.Schema
    convert: Callable[[Record, int], Record | None]
    """From a record and its place among those written; None where the format cannot say it."""


@dataclass(frozen=True, slots=True)
class Format:
    """One consumer's format."""

    name: str
    shapes: Mapping[str, Callable[[pa.Schema], Shape]]
    """Kind of record to its shape, made from the columns a run gives."""

    holds_tools: bool = False
    """Whether conversations may call tools, and a column ``tools`` may define them."""

    hard_labels: bool = False
    """Whether its trainers know no ``chosen_prob``."""

    smoothing: str = ""
    """With hard labels: where its trainers take one label smoothing for all pairs."""

    refused: Mapping[str, str] = field(default_factory=dict)
    """Kind of record to the reason why this consumer has no use for it."""

    files: Callable[[str, str], Mapping[str, str]] = lambda _, __: {}
    """From the kind of record and the data set's name to the texts of further files."""


def keep_marks(schema: pa.Schema) -> list[pa.Field]:
    """The columns that say where a record comes from."""
    return [schema.field(name) for name in MARKS if name in schema.names]


def marks_of(record: Record) -> Record:
    """Their values."""
    return {name: record[name] for name in MARKS if name in record}


def completion_of(what: str) -> str:
    """The column that holds what is to be learned in records of a kind."""
    return "revision" if what == "revisions" else "completion"


def conversations(what: str) -> Callable[[pa.Schema], Shape]:
    """Whole conversations in one column ``messages``."""
    column = completion_of(what)

    def shape(schema: pa.Schema) -> Shape:
        rest = [one for one in schema if one.name not in ("prompt", column, "draft")]
        fields = [schema.field("prompt").with_name("messages"), *rest]

        def convert(record: Record, _: int) -> Record:
            kept = {one.name: record.get(one.name) for one in rest}
            return {"messages": [*record["prompt"], *record[column]], **kept}

        return Shape(pa.schema(fields), convert)

    return shape


def alternates(messages: Sequence[Mapping[str, str]]) -> bool:
    """Whether user and assistant take turns, after at most one system message."""
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    return all(role == ("user", "assistant")[place % 2] for place, role in enumerate(turns))


_NO_CONVERSATION = "it holds one conversation a record"


def _as_it_is(schema: pa.Schema) -> Shape:
    def convert(record: Record, _: int) -> Record:
        return record

    return Shape(schema, convert)


_ALL: dict[str, Callable[[pa.Schema], Shape]] = dict.fromkeys(tables.TABLES, _as_it_is)

TRL = Format("trl", _ALL, holds_tools=True)

MESSAGES = Format(
    "messages",
    {what: conversations(what) for what in ("demonstrations", "responses", "revisions")},
    holds_tools=True,
    refused=dict.fromkeys(("pairs", "judgments", "prompts"), _NO_CONVERSATION),
)
