"""The model card of a policy trained with PPO: what went in, what came of it, every setting."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from rlaif.training.ppo.checkpoint import State

_SHOWN = ("score/mean", "objective/kl", "response/tokens", "response/ended")


def model_card(
    plan: Mapping[str, Any],
    state: State,
    rows: Sequence[Mapping[str, Any]],
    *,
    prompts: int,
    too_long: int,
    scorer: str,
) -> str:
    """Return Markdown with the front matter the hub reads.

    Args:
        plan: What the training was asked.
        state: Where it ended.
        rows: Its metrics, oldest first.
        prompts: How many prompts were asked.
        too_long: How many were left out.
        scorer: What it was trained to please, in words.
    """
    first, last = (rows[0], rows[-1]) if rows else ({}, {})
    table = [f"| {name} | {_show(first.get(name))} | {_show(last.get(name))} |" for name in _SHOWN]
    torn = "- an update was interrupted and made again, so no training repeats this one exactly"
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [rlaif, ppo]",
        "---",
        "# A policy trained with PPO",
        "",
        f"Started from `{plan['model']}`, trained with constitutional-rlaif "
        f"{version('constitutional-rlaif')}: {state.rollout} rollouts, {state.responses} responses "
        f"to {prompts} prompts.",
        "",
        f"- scored by: {scorer}",
        f"- responses left out because they were not scored: {state.unscored}",
        f"- prompts left out because they were too long: {too_long}",
        *([torn] if state.torn else []),
        "",
        "| | first rollout | last rollout |",
        "|---|--:|--:|",
        *table,
        "",
        "KL is in nats per sequence against the starting policy. That the score of this scorer "
        "rose says nothing about any other: evaluate on prompts that were held out.",
        "",
        "## Settings",
        "",
        *[f"- {key}: `{value}`" for key, value in plan.items()],
        "",
    ]
    return "\n".join(lines)


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "–"
