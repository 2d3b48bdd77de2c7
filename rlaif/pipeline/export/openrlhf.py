"""OpenRLHF 0.11: SFT, reward model, DPO, PPO.

With ``--data.apply_chat_template`` prompt and replies must both be lists of messages: it adds them
up and takes the rendered prompt off the front. Its loaders read Parquet.
"""

import pyarrow as pa

from rlaif.pipeline.export.shape import (
    Format,
    Record,
    Shape,
    completion_of,
    keep_marks,
    marks_of,
)
from rlaif.records import canonical_json


def _pairs(schema: pa.Schema) -> Shape:
    columns = [schema.field(name) for name in ("prompt", "chosen", "rejected", "margin")]

    def convert(record: Record, _: int) -> Record:
        return {one.name: record[one.name] for one in columns} | marks_of(record)

    return Shape(pa.schema([*columns, *keep_marks(schema)]), convert)


def _demonstrations(what: str, schema: pa.Schema) -> Shape:
    column = completion_of(what)
    named = [
        schema.field("prompt").with_name("input"),
        schema.field(column).with_name("output"),
    ]

    def convert(record: Record, _: int) -> Record:
        return {"input": record["prompt"], "output": record[column]} | marks_of(record)

    return Shape(pa.schema([*named, *keep_marks(schema)]), convert)


def _prompts(schema: pa.Schema) -> Shape:
    """The label holds the prompt word for word, for the reward server; see `rlaif.serving`."""
    text = pa.string()
    own = [schema.field("prompt"), pa.field("label", text), pa.field("datasource", text)]

    def convert(record: Record, _: int) -> Record:
        told = {"prompt": record["prompt"], "tags": record["tags"]}
        if record["reference"] is not None:
            told["reference"] = record["reference"]
        return {
            "prompt": record["prompt"],
            "label": canonical_json(told).decode(),
            "datasource": record["run"],
        } | marks_of(record)

    return Shape(pa.schema([*own, *keep_marks(schema)]), convert)


OPENRLHF = Format(
    "openrlhf",
    {
        "pairs": _pairs,
        "demonstrations": lambda schema: _demonstrations("demonstrations", schema),
        "revisions": lambda schema: _demonstrations("revisions", schema),
        "prompts": _prompts,
    },
    hard_labels=True,
    smoothing="--model.label_smoothing",
    refused=dict.fromkeys(("responses", "judgments"), "none of its trainers reads them"),
)
