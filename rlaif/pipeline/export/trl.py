"""TRL, and this package: every kind of record as it is, soft labels beside it.

Conversational columns ``prompt``, ``chosen``, ``rejected``, ``completion``; see the dataset formats
of TRL. ``messages`` is the common denominator of supervised fine-tuning: one conversation a record.
"""

from collections.abc import Callable

import pyarrow as pa

from rlaif.pipeline.export.shape import Format, Record, Shape, conversations
from rlaif.runs import tables

_NO_CONVERSATION = "it holds one conversation a record"


def _as_it_is(schema: pa.Schema) -> Shape:
    def convert(record: Record, _: int) -> Record:
        return record

    return Shape(schema, convert)


_ALL: dict[str, Callable[[pa.Schema], Shape]] = dict.fromkeys(tables.TABLES, _as_it_is)

TRL = Format("trl", _ALL)

MESSAGES = Format(
    "messages",
    {what: conversations(what) for what in ("demonstrations", "responses", "revisions")},
    refused=dict.fromkeys(("pairs", "judgments", "prompts"), _NO_CONVERSATION),
)
