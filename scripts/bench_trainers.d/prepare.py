"""What both sides of scripts/bench_trainers are given: the same models, texts and sizes."""

import json
import sys
from pathlib import Path

import torch

from rlaif.constitution import load_constitution
from rlaif.models import resolve_model
from rlaif.training import load_scorer

PAIRS_PER_STEP = 4
NAMES = ("concise", "hhh")


def main() -> None:
    work, model, steps, rollouts = sys.argv[1:]
    folder = Path(work)
    rows = [
        {
            "prompt": [{"role": "user", "content": example.prompt}],
            "chosen": [{"role": "assistant", "content": example.better}],
            "rejected": [{"role": "assistant", "content": example.worse}],
            "chosen_prob": 0.8,
        }
        for name in NAMES
        for principle in load_constitution(name).principles
        for example in principle.examples
    ]
    count = int(steps) * PAIRS_PER_STEP
    rows = (rows * (count // len(rows) + 1))[:count]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rewarder = folder / "reward-model"
    if not rewarder.exists():
        torch.manual_seed(0)
        scorer, tokenizer = load_scorer(model)
        scorer.save_pretrained(rewarder)
        tokenizer.save_pretrained(rewarder)
    prompts = Path(__file__).parents[2] / "prompts" / "seed" / "train.jsonl"
    job = {
        "model": resolve_model(model),
        "reward_model": str(rewarder),
        "pairs": str(folder / "pairs.jsonl"),
        "prompts": str(prompts),
        "work": work,
        "dpo": {"steps": int(steps), "batch": PAIRS_PER_STEP, "beta": 0.1, "length": 512},
        "ppo": {
            "rollouts": int(rollouts),
            "rollout": 16,
            "minibatch": 8,
            "micro": 4,
            "epochs": 2,
            "new_tokens": 48,
            "rate": 3e-6,
        },
    }
    (folder / "job.json").write_text(json.dumps(job, indent=1))


if __name__ == "__main__":
    main()
