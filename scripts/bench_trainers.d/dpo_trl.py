"""DPO with certain labels (it knows no others), TRL's."""

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from timing import StepTimes, gpu_peak
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

job = json.loads(Path(sys.argv[1]).read_text())
sizes = job["dpo"]
rows = [json.loads(line) for line in Path(job["pairs"]).read_text().splitlines()]
dataset = Dataset.from_list(rows).remove_columns("chosen_prob")
# As ours.
on_gpu = torch.cuda.is_available()
tf32 = True if on_gpu and torch.cuda.get_device_capability() >= (8, 0) else None
arguments = DPOConfig(
    output_dir=str(Path(job["work"]) / "dpo-trl"),
    per_device_train_batch_size=sizes["batch"],
    num_train_epochs=1,
    beta=sizes["beta"],
    max_length=sizes["length"],
    precompute_ref_log_probs=True,
    precompute_ref_batch_size=sizes["batch"],
    gradient_checkpointing=False,
    bf16=False,
    tf32=True
    if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    else None,
    use_cpu=not on_gpu,
    save_strategy="no",
    report_to=[],
    disable_tqdm=True,
    dataloader_pin_memory=False,
)
times = StepTimes()
trainer = DPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32),
    args=arguments,
    train_dataset=dataset,
    processing_class=AutoTokenizer.from_pretrained(job["model"]),
    callbacks=[times],
)
trainer.train()
assert len(times.seconds) == sizes["steps"]
Path(sys.argv[2]).write_text(json.dumps(times.means() | gpu_peak()))
