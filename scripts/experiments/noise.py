"""DPO, soft DPO and GDPO on labels of known, unequal reliability.

    python scripts/experiments/noise.py

Rules say which of two responses is better, so the truth is known. Each training pair gets a
reliability r of .95, .75 or .55, its label is turned round with probability 1 − r, and r is the
label's probability: a calibrated, noisy judge. Held-out pairs keep the truth. Every seed draws
other training pairs, other noise and another order, and all losses learn from the same.

    hard    plain DPO; every label counts as certain
    soft    cross-entropy under r
    gdpo    the margin scaled by 2r − 1
"""

import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from datasets import Dataset
from record import HERE, ROOT, arguments, carry_out, keep, smooth

from rlaif import open_run
from rlaif.training import train_dpo
from rlaif.training.data.read import split_held_out
from rlaif.training.harness.metrics import read_metrics
from rlaif.training.harness.progress import progress_style

LOSSES = {"hard": "soft", "soft": "soft", "gdpo": "gdpo"}
RELIABILITIES = (0.95, 0.75, 0.55)
HELD_OUT = 0.5
KEPT = ("rewards/accuracies", "rewards/margins", "logps/chosen_per_token")


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    count, seeds = (8, 1) if asked.smoke else (asked.pairs, asked.seeds)
    run = asked.out / f"noise-run{'-smoke' * asked.smoke}"
    generate(run, limit=12 if asked.smoke else 90)
    pairs = open_run(run).to_dataset("pairs")
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in LOSSES}
    curves: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in LOSSES}
    flipped, held_out = [], []
    for seed in range(1, seeds + 1):
        rows, wrong = plant(pairs, count, seed)
        flipped.append(wrong)
        held_out.append(len(rows) - count)
        for name, loss in LOSSES.items():
            result = train_dpo(
                config=HERE / "noise.yaml",
                dataset=rows.remove_columns("chosen_prob") if name == "hard" else rows,
                loss=loss,
                held_out=HELD_OUT,
                seed=seed,
                out=asked.out / f"noise-{name}-{seed}{'-smoke' * asked.smoke}",
                force=asked.force,
                style=progress_style(),
            )
            seen[name].append(result.metrics["held_out"])
            curves[name].append(read_metrics(result.out))
    measured: dict[str, Any] = {
        "experiment": "preference losses under planted label noise",
        "pairs": count,
        "reliabilities": RELIABILITIES,
        "flipped": flipped,
        "held-out pairs": held_out,
    }
    for name, found in seen.items():
        measured[name] = {key: spread([one[key] for one in found]) for key in KEPT}
    for name in ("soft", "gdpo"):
        measured[f"{name} minus hard"] = spread(
            [
                one["rewards/accuracies"] - other["rewards/accuracies"]
                for one, other in zip(seen[name], seen["hard"], strict=True)
            ]
        )
    panels = {
        title: {name: smooth(middle(curves[name], key), 5) for name in LOSSES}
        for title, key in (
            ("reward margin, training", "rewards/margins"),
            ("labelled side, training", "rewards/accuracies"),
        )
    }
    keep(asked.record, f"noise{'-smoke' * asked.smoke}", measured, panels)


def spread(values: list[float]) -> dict[str, Any]:
    """Return the mean, its standard error over the seeds, and every seed's value."""
    few = len(values) < 2
    return {
        "mean": round(statistics.fmean(values), 4),
        "standard error": None if few else round(statistics.stdev(values) / len(values) ** 0.5, 4),
        "seeds": [round(value, 4) for value in values],
    }


def middle(seeds: list[list[dict[str, Any]]], key: str) -> list[tuple[float, float]]:
    """Return the mean over the seeds, step by step."""
    return [
        (rows[0]["step"], statistics.fmean(row[key] for row in rows))
        for rows in zip(*seeds, strict=True)
    ]


def generate(run: Path, limit: int) -> None:
    """Sample and compare by rules; repeated, it only reads."""
    command = [str(Path(sys.executable).with_name("rlaif")), "generate"]
    sets = ["--set", f"out={run}", "--set", f"prompts.limit={limit}"]
    done = subprocess.run([*command, str(HERE / "generate.yaml"), *sets], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def plant(pairs: Dataset, count: int, seed: int) -> tuple[Dataset, int]:
    """Return ``count`` training pairs with planted noise and the held-out ones with the truth."""
    draw = random.Random(seed)
    train, held_out = split_held_out(pairs, HELD_OUT, seed)
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
