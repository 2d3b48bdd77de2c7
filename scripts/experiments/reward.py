"""A reward model on hh_harmless and pandalm: accuracy on held-out prompts, with an interval.

    python scripts/experiments/reward.py --data DIR

Ties and pairs that are longer than reward.yaml allows are left out; --pairs bounds the rest.
"""

import random

from record import HERE, arguments, carry_out, keep, pairs_of, smooth, write_rows

from rlaif.training import train_reward
from rlaif.training.harness.metrics import read_metrics
from rlaif.training.harness.progress import progress_style

NAMES = ("hh_harmless", "pandalm")
MOST_CHARACTERS = 900
"""Of prompt and both responses: about 200 tokens, so that a minute is a minute."""


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], data=True)
    parser.add_argument("--pairs", type=int, default=400)
    asked = parser.parse_args()
    count = 24 if asked.smoke else asked.pairs
    out = asked.out / f"reward{'-smoke' * asked.smoke}"
    rows = [row for row in pairs_of(asked.data, *NAMES) if row["label"] != "tie"]
    texts = ("prompt", "response_a", "response_b")
    rows = [row for row in rows if sum(len(row[text]) for text in texts) <= MOST_CHARACTERS]
    random.Random(0).shuffle(rows)
    file = write_rows(asked.out / f"reward-pairs-{count}.jsonl", rows[:count])
    result = train_reward(
        config=HERE / "reward.yaml",
        dataset=file,
        out=out,
        force=asked.force,
        style=progress_style(),
    )
    steps = read_metrics(out)
    names = ("loss", "accuracy")
    keep(
        asked.record,
        f"reward{'-smoke' * asked.smoke}",
        {
            "experiment": "reward model on hh_harmless and pandalm",
            "pairs": min(count, len(rows)),
            "steps": result.steps,
            "seconds": round(result.seconds),
            "held_out": result.metrics["held_out"],
        },
        {
            name: {
                "each": [(row["step"], row[name]) for row in steps],
                "mean of 10": smooth([(row["step"], row[name]) for row in steps], 10),
            }
            for name in names
        },
    )


if __name__ == "__main__":
    carry_out(main)
