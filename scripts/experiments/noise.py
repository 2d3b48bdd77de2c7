"""DPO, soft DPO and GDPO on labels of known, unequal reliability.

    python scripts/experiments/noise.py

Rules say which of two responses is better, so the truth is known. Each training pair gets a
reliability r of .95, .75 or .55, its label is turned round with probability 1 − r, and r is the
label's probability: a calibrated, noisy judge. Held-out pairs keep the truth.

    hard    plain DPO; every label counts as certain
    soft    cross-entropy under r
    gdpo    the margin scaled by 2r − 1
"""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from datasets import Dataset
from record import HERE, ROOT, arguments, carry_out, keep, smooth

from rlaif import open_run
from rlaif.training import train_dpo
from rlaif.training.data import split_held_out
from rlaif.training.metrics import read_metrics
from rlaif.training.progress import progress_style

LOSSES = {"hard": "soft", "soft": "soft", "gdpo": "gdpo"}
RELIABILITIES = (0.95, 0.75, 0.55)
HELD_OUT, SEED = 0.5, 1
KEPT = ("rewards/accuracies", "rewards/margins", "logps/chosen_per_token")


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=64)
    asked = parser.parse_args()
    count = 8 if asked.smoke else asked.pairs
    run = asked.out / f"noise-run{'-smoke' * asked.smoke}"
    generate(run, limit=12 if asked.smoke else 90)
    rows, flipped = plant(open_run(run).to_dataset("pairs"), count)
    measured: dict[str, Any] = {
        "experiment": "preference losses under planted label noise",
        "pairs": count,
        "flipped": flipped,
        "reliabilities": RELIABILITIES,
    }
    panels: dict[str, Any] = {"reward margin, training": {}, "true side, training": {}}
    for name, loss in LOSSES.items():
        result = train_dpo(
            config=HERE / "noise.yaml",
            dataset=rows.remove_columns("chosen_prob") if name == "hard" else rows,
            loss=loss,
            held_out=HELD_OUT,
            seed=SEED,
            out=asked.out / f"noise-{name}{'-smoke' * asked.smoke}",
            force=asked.force,
            style=progress_style(),
        )
        held_out = result.metrics["held_out"]
        measured[name] = {key: round(held_out[key], 4) for key in KEPT}
        steps = read_metrics(result.out)
        for panel, key in zip(panels, ("rewards/margins", "rewards/accuracies"), strict=True):
            panels[panel][name] = smooth([(row["step"], row[key]) for row in steps], 5)
    measured["held-out pairs"] = len(rows) - count
    keep(asked.record, f"noise{'-smoke' * asked.smoke}", measured, panels)


def generate(run: Path, limit: int) -> None:
    """Sample and compare by rules; repeated, it only reads."""
    command = [str(Path(sys.executable).with_name("rlaif")), "generate"]
    sets = ["--set", f"out={run}", "--set", f"prompts.limit={limit}"]
    done = subprocess.run([*command, str(HERE / "generate.yaml"), *sets], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def plant(pairs: Dataset, count: int) -> tuple[Dataset, int]:
    """Return ``count`` training pairs with planted noise and the held-out ones with the truth."""
    draw = random.Random(SEED)
    train, held_out = split_held_out(pairs, HELD_OUT, SEED)
    assert held_out is not None
    if len(train) < count:
        sys.exit(f"only {len(train)} training pairs; raise prompts.limit in generate.yaml")
    rows: list[dict[str, Any]] = []
    flipped = 0
    for place in draw.sample(range(len(train)), count):
        row = train[place]
        reliability = draw.choice(RELIABILITIES)
        wrong = draw.random() > reliability
        flipped += wrong
        better, worse = ("rejected", "chosen") if wrong else ("chosen", "rejected")
        rows.append(labelled(row, row[better], row[worse], reliability))
    rows += [labelled(row, row["chosen"], row["rejected"], 1.0) for row in held_out]
    return Dataset.from_list(rows), flipped


def labelled(row: dict[str, Any], chosen: Any, rejected: Any, p: float) -> dict[str, Any]:
    """Return a preference row."""
    return {"prompt": row["prompt"], "chosen": chosen, "rejected": rejected, "chosen_prob": p}


if __name__ == "__main__":
    carry_out(main)
