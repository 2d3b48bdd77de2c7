"""Rows on disk: a fixed, numbered Arrow schema, never inferred.

A column that is empty in one shard has the same type as in all others, so that any reader of
Parquet can read shards together. Only shards with tools in conversations have additional fields
(`schema_of`). Raise `SCHEMA_NUMBER` with every change.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import pyarrow as pa

from rlaif.records import (
    Choice,
    Critique,
    Drop,
    Failure,
    Judgment,
    Order,
    PreferencePair,
    Prompt,
    Response,
    Revision,
    Row,
    Verdict,
)
from rlaif.records.tool_use import stored, uses_tools
from rlaif.runs.text import fix_json

SCHEMA_NUMBER = 2
"""The newest version: 1 has no tools in conversations, and is still written without them."""

_TEXT, _REAL, _COUNT, _FLAG = pa.string(), pa.float64(), pa.int64(), pa.bool_()


def _struct(**fields: pa.DataType) -> pa.DataType:
    return pa.struct(list(fields.items()))


MESSAGES = pa.list_(_struct(role=_TEXT, content=_TEXT))
"""A conversation without tools."""

_CALL = _struct(id=_TEXT, type=_TEXT, function=_struct(name=_TEXT, arguments=_TEXT))
_TOOL_USE = {"name": _TEXT, "tool_calls": pa.list_(_CALL), "tool_call_id": _TEXT}

TOOL_MESSAGES = pa.list_(_struct(role=_TEXT, content=_TEXT, **_TOOL_USE))
"""A conversation with tools; null in messages without any."""

_PROMPT = _struct(id=_TEXT, messages=MESSAGES, tags=pa.list_(_TEXT))
_TOOL_PROMPT = _struct(
    id=_TEXT,
    messages=pa.list_(_struct(role=_TEXT, content=_TEXT, **_TOOL_USE, tools=_TEXT)),
    tags=pa.list_(_TEXT),
)
_RESPONSE = _struct(
    id=_TEXT,
    prompt_id=_TEXT,
    text=_TEXT,
    index=_COUNT,
    origin=_TEXT,
    finish=_TEXT,
    tokens=_COUNT,
    call=_TEXT,
)
_CRITIQUE = _struct(
    response_id=_TEXT, principle=_TEXT, round=_COUNT, text=_TEXT, found=_FLAG, call=_TEXT
)
_REVISION = _struct(from_id=_TEXT, to_id=_TEXT, principle=_TEXT, round=_COUNT)
_VERDICT = _struct(
    judge=_TEXT,
    method=_TEXT,
    principle=_TEXT,
    order=_TEXT,
    choice=_TEXT,
    logit=_REAL,
    mass=_REAL,
    scores=pa.list_(_REAL),
    reason=_TEXT,
    raw=_TEXT,
    calls=pa.list_(_TEXT),
)
VERDICTS = pa.list_(_VERDICT)
"""The verdicts on one comparison."""

_JUDGMENT = _struct(
    first_id=_TEXT,
    second_id=_TEXT,
    preference=_REAL,
    raw_preference=_REAL,
    transforms=pa.list_(_TEXT),
    agreement=_REAL,
    position_bias=_REAL,
    abstained=_COUNT,
    verdicts=VERDICTS,
    disagreement=_REAL,
)
_PAIR = _struct(
    prompt_id=_TEXT,
    chosen_id=_TEXT,
    rejected_id=_TEXT,
    chosen_prob=_REAL,
    margin=_REAL,
    principles=pa.list_(_TEXT),
    judges=pa.list_(_TEXT),
    agreement=_REAL,
    abstained=_COUNT,
)
_DROP = _struct(what=_TEXT, reason=_TEXT, ids=pa.list_(_TEXT))
_FAILURE = _struct(stage=_TEXT, record_id=_TEXT, kind=_TEXT, message=_TEXT, attempts=_COUNT)

ROW_SCHEMA = pa.schema(
    {
        "id": _TEXT,
        "prompt": _PROMPT,
        "responses": pa.list_(_RESPONSE),
        "critiques": pa.list_(_CRITIQUE),
        "revisions": pa.list_(_REVISION),
        "judgments": pa.list_(_JUDGMENT),
        "pairs": pa.list_(_PAIR),
        "drops": pa.list_(_DROP),
        "failures": pa.list_(_FAILURE),
        "canaries": pa.list_(_JUDGMENT),
    }
)


TOOL_ROW_SCHEMA = ROW_SCHEMA.set(
    ROW_SCHEMA.get_field_index("prompt"), pa.field("prompt", _TOOL_PROMPT)
)
"""The same with tools in conversations."""

RUN_KEY, NUMBER_KEY = "rlaif.run", "rlaif.schema"
"""Metadata keys of a shard: the run's label and the number of the schema."""


def _reader(kind: pa.DataType) -> Callable[[Any], dict[str, Any]]:
    """Return a function from a record to its fields by name."""
    names = tuple(field.name for field in kind)
    get = attrgetter(*names)
    return lambda record: dict(zip(names, get(record), strict=True))


_read_response, _read_critique = _reader(_RESPONSE), _reader(_CRITIQUE)
_read_revision, _read_pair, _read_drop = _reader(_REVISION), _reader(_PAIR), _reader(_DROP)
_read_judgment, _read_verdict = _reader(_JUDGMENT), _reader(_VERDICT)
_read_failure = _reader(_FAILURE)


def row_to_dict(row: Row) -> dict[str, Any]:
    """Return the row as JSON-compatible values, fields in the order of the schema.

    The ``source`` of the prompt is left out: moving a file must not change a row.
    """
    prompt = row.prompt
    return {
        "id": row.id,
        "prompt": {"id": prompt.id, "messages": prompt.messages, "tags": prompt.tags},
        "responses": [_read_response(response) for response in row.responses],
        "critiques": [_read_critique(critique) for critique in row.critiques],
        "revisions": [_read_revision(revision) for revision in row.revisions],
        "judgments": [judgment_to_dict(judgment) for judgment in row.judgments],
        "pairs": [_read_pair(pair) for pair in row.pairs],
        "drops": [_read_drop(drop) for drop in row.drops],
        "failures": [_read_failure(failure) for failure in row.failures],
        "canaries": [judgment_to_dict(judgment) for judgment in row.canaries],
    }


def row_from_dict(data: Mapping[str, Any]) -> Row:
    """Read what `row_to_dict` wrote."""
    return Row(
        id=data["id"],
        prompt=prompt_from_dict(data["prompt"]),
        responses=tuple(Response(**fields) for fields in data["responses"]),
        critiques=tuple(Critique(**fields) for fields in data["critiques"]),
        revisions=tuple(Revision(**fields) for fields in data["revisions"]),
        judgments=tuple(_judgment_from_dict(fields) for fields in data["judgments"]),
        pairs=tuple(
            PreferencePair(**_with_tuples(fields, "principles", "judges"))
            for fields in data["pairs"]
        ),
        drops=tuple(Drop(**_with_tuples(fields, "ids")) for fields in data["drops"]),
        failures=tuple(Failure(**fields) for fields in data["failures"]),
        canaries=tuple(_judgment_from_dict(fields) for fields in data.get("canaries") or ()),
    )


def prompt_from_dict(data: Mapping[str, Any]) -> Prompt:
    """Read the prompt of a row."""
    return Prompt(data["id"], tuple(map(stored, data["messages"])), tuple(data["tags"]))


def schema_of(rows: Sequence[Row]) -> tuple[int, pa.Schema]:
    """Return number and schema for these rows: the oldest with all their fields."""
    with_tools = any(uses_tools(row.prompt.messages) for row in rows)
    return (2, TOOL_ROW_SCHEMA) if with_tools else (1, ROW_SCHEMA)


def rows_to_batch(rows: Sequence[Row], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as a record batch of a schema from `schema_of`.

    Invalid Unicode is fixed (`rlaif.runs.text.fix_text`).
    """
    values = [row_to_dict(row) for row in rows]
    try:
        return pa.RecordBatch.from_pylist(values, schema=schema)
    except UnicodeEncodeError:
        return pa.RecordBatch.from_pylist(fix_json(values), schema=schema)


def judgment_to_dict(judgment: Judgment) -> dict[str, Any]:
    """Return a judgment and its verdicts as JSON-compatible values."""
    fields = _read_judgment(judgment)
    verdicts = [_read_verdict(verdict) for verdict in judgment.verdicts]
    for verdict in verdicts:
        verdict["order"] = verdict["order"].value
        verdict["choice"] = verdict["choice"].value
        verdict["calls"] = list(verdict["calls"])
        verdict["scores"] = None if verdict["scores"] is None else list(verdict["scores"])
    return fields | {"verdicts": verdicts}


def _judgment_from_dict(data: Mapping[str, Any]) -> Judgment:
    verdicts = tuple(_verdict_from_dict(fields) for fields in data["verdicts"])
    return Judgment(**_with_tuples(data, "transforms") | {"verdicts": verdicts})


def _verdict_from_dict(data: Mapping[str, Any]) -> Verdict:
    fields = _with_tuples(data, "calls")
    if fields["scores"] is not None:
        fields["scores"] = tuple(fields["scores"])
    return Verdict(**fields | {"order": Order(data["order"]), "choice": Choice(data["choice"])})


def _with_tuples(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return dict(data) | {name: tuple(data[name]) for name in names}
