"""LLaMA-Factory 0.9: SFT, reward model, DPO; PPO on prompts.

A folder with ``dataset_info.json`` is its ``dataset_dir``. Turns must alternate: it skips what does
not, so such records are left out here and counted.
"""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from rlaif.pipeline.export.shape import (
    DATA_FILE,
    Format,
    Record,
    Shape,
    alternates,
    completion_of,
    keep_marks,
    marks_of,
)

_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}


def _pairs(schema: pa.Schema) -> Shape:
    messages = schema.field("prompt").type
    columns = [
        pa.field("messages", messages),
        pa.field("chosen", messages.value_type),
        pa.field("rejected", messages.value_type),
    ]

    def convert(record: Record, _: int) -> Record | None:
        if not alternates(record["prompt"]):
            return None
        return {
            "messages": record["prompt"],
            "chosen": record["chosen"][0],
            "rejected": record["rejected"][0],
        } | marks_of(record)

    return Shape(pa.schema([*columns, *keep_marks(schema)]), convert)


def _demonstrations(what: str, schema: pa.Schema) -> Shape:
    column = completion_of(what)

    def convert(record: Record, _: int) -> Record | None:
        whole = [*record["prompt"], *record[column]]
        return {"messages": whole} | marks_of(record) if alternates(whole) else None

    messages = schema.field("prompt").with_name("messages")
    return Shape(pa.schema([messages, *keep_marks(schema)]), convert)


def _prompts(schema: pa.Schema) -> Shape:
    """PPO there reads prompts as conversations whose last, empty turn is the assistant's."""

    def convert(record: Record, _: int) -> Record | None:
        whole = [*record["prompt"], {"role": "assistant", "content": ""}]
        return {"messages": whole} | marks_of(record) if alternates(whole) else None

    messages = schema.field("prompt").with_name("messages")
    return Shape(pa.schema([messages, *keep_marks(schema)]), convert)


def _dataset_info(what: str, name: str) -> Mapping[str, str]:
    columns = {"messages": "messages"}
    entry: dict[str, Any] = {"file_name": DATA_FILE, "formatting": "sharegpt"}
    if what == "pairs":
        entry["ranking"] = True
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    entry |= {"columns": columns, "tags": _TAGS}
    return {"dataset_info.json": json.dumps({name: entry}, indent=2) + "\n"}


LLAMA_FACTORY = Format(
    "llama-factory",
    {
        "pairs": _pairs,
        "demonstrations": lambda schema: _demonstrations("demonstrations", schema),
        "revisions": lambda schema: _demonstrations("revisions", schema),
        "prompts": _prompts,
    },
    hard_labels=True,
    smoothing="dpo_label_smoothing",
    refused=dict.fromkeys(("responses", "judgments"), "none of its trainers reads them"),
    files=_dataset_info,
)
