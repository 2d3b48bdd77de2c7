"""What a finished training leaves: policy, critic, curves and model card."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlaif.training.metrics import draw_curves, read_metrics
from rlaif.training.ppo.build import Parts
from rlaif.training.ppo.card import model_card
from rlaif.training.ppo.checkpoint import State
from rlaif.training.ppo.describe import CURVES

_SHOWN = ("score/mean", "objective/kl", "response/tokens", "response/ended")


def write_outcome(out: Path, parts: Parts, state: State, *, settings: Mapping[str, Any]) -> None:
    """Write everything into ``out``; files appear whole, the policy's weights last.

    Adapters are merged into the policy that plain transformers loads, and kept in ``adapter/``. A
    base in 4 bits cannot take them up without loss: there only the adapter is written.
    """
    staging = out / ".saving"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    parts.models.save_critic(staging / "critic")
    policy = parts.models.policy
    if hasattr(policy, "peft_config"):
        policy.save_pretrained(staging / "adapter")
        policy = None if getattr(policy, "is_loaded_in_4bit", False) else policy.merge_and_unload()
    if policy is not None:
        policy.save_pretrained(staging)
    parts.tokenizer.save_pretrained(staging)
    rows = read_metrics(out)
    draw_curves(rows, CURVES, staging / "curves.png")
    card = model_card("PPO", settings, _facts(parts, state), rows=rows, shown=_SHOWN)
    (staging / "README.md").write_text(card, encoding="utf-8")
    for path in sorted(staging.iterdir(), key=lambda p: p.suffix == ".safetensors"):
        target = out / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    staging.rmdir()


def _facts(parts: Parts, state: State) -> list[str]:
    facts = [
        f"{state.rollout} rollouts, {state.responses} responses to "
        f"{len(parts.prompts.prompts)} prompts",
        f"responses left out because they were not scored: {state.unscored}",
        f"prompts left out because they were too long: {parts.prompts.too_long}",
        "KL is in nats per sequence, against the policy that training started from",
    ]
    if state.torn:
        facts.append("an update was interrupted and made again: nothing repeats this exactly")
    return facts
