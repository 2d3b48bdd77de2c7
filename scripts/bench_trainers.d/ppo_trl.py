"""PPO, TRL's last (1.12.0): policy, value model, reference, reward model; all weights trained."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from timing import clocks, gpu_peak
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer

job = json.loads(Path(sys.argv[1]).read_text())
sizes = job["ppo"]
tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="left")
tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
rows = []
for line in Path(job["prompts"]).read_text().splitlines():
    message = {"role": "user", "content": json.loads(line)["prompt"]}
    text = tokenizer.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
    rows.append({"input_ids": tokenizer(text, add_special_tokens=False).input_ids})
dataset = Dataset.from_list(rows)


def load(kind: Any, folder: str, **options: Any) -> Any:
    """Load a model as the other side does."""
    return kind.from_pretrained(folder, dtype=torch.float32, **options)


arguments = PPOConfig(
    output_dir=str(Path(job["work"]) / "ppo-trl"),
    per_device_train_batch_size=sizes["micro"],
    gradient_accumulation_steps=sizes["rollout"] // sizes["micro"],
    num_mini_batches=sizes["rollout"] // sizes["minibatch"],
    num_ppo_epochs=sizes["epochs"],
    total_episodes=sizes["rollouts"] * sizes["rollout"],
    response_length=sizes["new_tokens"],
    local_rollout_forward_batch_size=sizes["rollout"],
    num_sample_generations=0,
    stop_token="eos",
    temperature=1.0,
    missing_eos_penalty=1.0,
    learning_rate=sizes["rate"],
    gradient_checkpointing=False,
    bf16=False,
    use_cpu=not torch.cuda.is_available(),
    save_strategy="no",
    report_to=[],
    disable_tqdm=True,
    dataloader_pin_memory=False,
)
trainer = PPOTrainer(
    args=arguments,
    processing_class=tokenizer,
    model=load(AutoModelForCausalLM, job["model"]),
    ref_model=load(AutoModelForCausalLM, job["model"]),
    reward_model=load(AutoModelForSequenceClassification, job["reward_model"], num_labels=1),
    value_model=load(AutoModelForSequenceClassification, job["reward_model"], num_labels=1),
    train_dataset=dataset,
    eval_dataset=dataset.select(range(4)),
)
began, cpu_began = clocks()
trainer.train()
ended, cpu_ended = clocks()
samples = sizes["rollouts"] * sizes["rollout"]
found = {
    **gpu_peak(),
    "seconds": (ended - began) / samples,
    "cpu_seconds": (cpu_ended - cpu_began) / samples,
}
Path(sys.argv[2]).write_text(json.dumps(found))
