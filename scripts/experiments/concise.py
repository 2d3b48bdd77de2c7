"""Reinforcement learning against the rules of concise.yaml: does the reward rise, and at what KL?

    python scripts/experiments/concise.py ppo
    python scripts/experiments/concise.py rloo

Trains as ppo.yaml or rloo.yaml says, then lets the policy from before and the one from after answer
100 prompts that were never trained on.
"""

import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from record import HERE, ROOT, arguments, carry_out, keep, smooth

from rlaif.evaluation import evaluate
from rlaif.training.harness.metrics import read_metrics

SMOKE = {"rollouts": 2, "rollout_size": 8, "minibatch_size": 4, "max_new_tokens": 16}
OWN = {"ppo": {"critic_warmup": 1}, "rloo": {"micro_batch": 4}}
SCORE = {"ppo": "score/mean", "rloo": "reward"}
KL = {"ppo": "objective/kl", "rloo": "kl"}
LENGTH = {"rloo": "completions/mean_length"}
"""TRL's KL is a mean over tokens; times the length it is, as in PPO's, nats a response."""

MEASURES = ("rules", "rules/finished", "rules/brief", "length/words", "length/cut-off")


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("method", choices=["ppo", "rloo"])
    parser.add_argument("--limit", type=int, default=40, help="held-out prompts")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    name = f"{asked.method}-seed-{asked.seed}" if asked.seed != 1 else asked.method
    out = asked.out / name
    changes = {
        "out": out,
        "seed": asked.seed,
        **(SMOKE | OWN[asked.method] if asked.smoke else {}),
    }
    train(asked.method, changes, force=asked.force)
    score = SCORE[asked.method]
    rows = [row for row in read_metrics(out) if score in row]
    kls = [row[KL[asked.method]] * row.get(LENGTH.get(asked.method, ""), 1.0) for row in rows]
    measured: dict[str, Any] = {
        "experiment": f"{asked.method} on the rules of concise.yaml",
        "steps": rows[-1]["step"],
        "score": {"first": part(rows[:2], score), "last": part(rows[-4:], score)},
        "kl_last_4": statistics.fmean(kls[-4:]),
        "kl_last_third": statistics.fmean(kls[-(len(kls) // 3) :]),
        "held_out": held_out(out, 4 if asked.smoke else asked.limit),
    }
    curves = {
        "score (share of rules)": [(row["step"], row[score]) for row in rows],
        "KL (nats a response)": [(row["step"], kl) for row, kl in zip(rows, kls, strict=True)],
    }
    panels = {
        name: {"each": points, "mean of 4": smooth(points, 4)} for name, points in curves.items()
    }
    keep(asked.record, f"{name}{'-smoke' * asked.smoke}", measured, panels)


def train(method: str, changes: dict[str, Any], *, force: bool) -> None:
    """Run the command a user would run; repeated, it goes on where it stopped."""
    sets = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    command = [str(Path(sys.executable).with_name("rlaif")), "train", method]
    command.append(str(HERE / f"{method}.yaml"))
    done = subprocess.run([*command, *sets, *["--force"] * force], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def part(rows: list[dict[str, Any]], score: str) -> dict[str, float]:
    """Return the mean of a stretch of the training."""
    return {"mean": statistics.fmean(row[score] for row in rows), "steps": len(rows)}


def held_out(checkpoint: Path, limit: int) -> dict[str, Any]:
    """Return each measure before and after, with 95% intervals over prompts, and the change."""
    card = evaluate(
        {
            "name": checkpoint.name,
            "seed": 11,
            "prompts": {
                "path": str(ROOT / "prompts/seed/heldout.jsonl"),
                "id_column": "id",
                "tags_column": "tags",
                "limit": limit,
            },
            "constitution": "concise",
            "models": [
                {"name": "before", "engine": "transformers", "model": "smollm2-135m-instruct"},
                {"name": "after", "engine": "transformers", "model": str(checkpoint)},
            ],
            "baseline": "before",
            "sampling": {"n": 1, "temperature": 1.0, "max_tokens": 64},
            "out": str(checkpoint.with_name(f"{checkpoint.name}-evaluation-{limit}")),
        },
        again=True,
    )
    found: dict[str, Any] = {"prompts": limit}
    for measure in MEASURES:
        for model in ("before", "after"):
            found[f"{measure} {model}"] = shown(card.estimate(model, measure))
    found["rules change"] = shown(card.change("after", "rules"))
    return found


def shown(estimate: Any) -> list[float | None]:
    """Return value, low and high."""
    values = (estimate.estimate, estimate.low, estimate.high)
    return [None if x is None or math.isnan(x) else round(x, 4) for x in values]


if __name__ == "__main__":
    carry_out(main)
