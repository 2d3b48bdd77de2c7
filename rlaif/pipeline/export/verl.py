"""verl 0.9: supervised fine-tuning and reinforcement learning.

Its reward functions see the response alone, so ``extra_info`` carries the prompt, its tags and the
reference to ours.
"""

import pyarrow as pa

from rlaif.pipeline.export.shape import Format, Record, Shape, conversations, keep_marks, marks_of

_NO_TRAINER = "verl has no DPO and no reward model trainer: use trl, openrlhf or llama-factory"


def _prompts(schema: pa.Schema) -> Shape:
    text = pa.string()
    prompt = schema.field("prompt")
    columns = [
        pa.field("data_source", text),
        prompt,
        pa.field("ability", text),
        pa.field("reward_model", pa.struct({"style": text, "ground_truth": text})),
        pa.field(
            "extra_info",
            pa.struct(
                {
                    "index": pa.int64(),
                    "split": text,
                    "prompt": prompt.type,
                    "tags": pa.list_(text),
                    "reference": text,
                }
            ),
        ),
    ]

    def convert(record: Record, place: int) -> Record:
        return {
            "data_source": record["run"],
            "prompt": record["prompt"],
            "ability": "chat",
            "reward_model": {"style": "rule", "ground_truth": record["reference"] or ""},
            "extra_info": {
                "index": place,
                "split": "train",
                "prompt": record["prompt"],
                "tags": record["tags"],
                "reference": record["reference"],
            },
        } | marks_of(record)

    return Shape(pa.schema([*columns, *keep_marks(schema)]), convert)


VERL = Format(
    "verl",
    {
        **{what: conversations(what) for what in ("demonstrations", "revisions", "responses")},
        "prompts": _prompts,
    },
    refused=dict.fromkeys(("pairs", "judgments"), _NO_TRAINER),
)
