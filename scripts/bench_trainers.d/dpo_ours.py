"""DPO with soft labels, ours."""

import json
import sys
from pathlib import Path

from timing import StepTimes, gpu_peak

from rlaif.config.train import DpoConfig
from rlaif.training.data.read import load_preferences
from rlaif.training.data.tokens import tokenise_pairs
from rlaif.training.dpo.train import build_trainer
from rlaif.training.harness.folder import open_training
from rlaif.training.harness.recipe import quiet_libraries
from rlaif.training.models import load_policy

job = json.loads(Path(sys.argv[1]).read_text())
sizes = job["dpo"]
settings = DpoConfig(
    model=job["model"],
    out=Path(job["work"]) / "dpo-ours",
    batch_size=sizes["batch"],
    beta=sizes["beta"],
    max_length=sizes["length"],
    reference="precomputed",
    gradient_checkpointing=False,
    save_every=10**6,
)
with quiet_libraries():
    policy, tokenizer = load_policy(job["model"], dtype="float32")
    rows = load_preferences(job["pairs"])
    tokens = tokenise_pairs(rows, tokenizer, max_length=sizes["length"])
    folder = open_training(Path(settings.out), "dpo", {}, force=True)
    trainer = build_trainer(settings, folder, policy, tokenizer, tokens)
    times = StepTimes()
    trainer.add_callback(times)
    trainer.train()
    folder.close()
assert len(times.seconds) == sizes["steps"]
read = sum(
    2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])
    for row in tokens.dataset
)
found = {**times.means(), **gpu_peak(), "tokens": read / sizes["steps"]}
Path(sys.argv[2]).write_text(json.dumps(found))
