"""axolotl 0.19: SFT and DPO by the tokenizer's chat template.

``axolotl.yaml`` is the part of its configuration that names the data. It trains DPO through a TRL
whose sigmoid loss has no label smoothing, so none is offered here: repeat pairs, or choose a
threshold.
"""

from collections.abc import Mapping

import pyarrow as pa

from rlaif.pipeline.export.shape import (
    DATA_FILE,
    Format,
    Record,
    Shape,
    conversations,
    keep_marks,
    marks_of,
)

_DPO = """\
rl: dpo
datasets:
  - path: {file}
    split: train
    type: chat_template.default
    field_messages: messages
    field_chosen: chosen
    field_rejected: rejected
"""
_SFT = """\
datasets:
  - path: {file}
    split: train
    type: chat_template
    field_messages: messages
"""


def _pairs(schema: pa.Schema) -> Shape:
    columns = [
        schema.field("prompt").with_name("messages"),
        schema.field("chosen"),
        schema.field("rejected"),
    ]

    def convert(record: Record, _: int) -> Record:
        kept = {name: record[name] for name in ("chosen", "rejected")}
        return {"messages": record["prompt"], **kept} | marks_of(record)

    return Shape(pa.schema([*columns, *keep_marks(schema)]), convert)


def _configuration(what: str, _: str) -> Mapping[str, str]:
    return {"axolotl.yaml": (_DPO if what == "pairs" else _SFT).format(file=DATA_FILE)}


AXOLOTL = Format(
    "axolotl",
    {
        "pairs": _pairs,
        **{what: conversations(what) for what in ("demonstrations", "revisions", "responses")},
    },
    holds_tools=True,
    hard_labels=True,
    refused={
        "judgments": "none of its trainers reads them",
        "prompts": "its GRPO takes prompts and a reward function in Python: use --to trl",
    },
    files=_configuration,
)
