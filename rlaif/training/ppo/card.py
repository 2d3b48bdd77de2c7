"""The model card of a policy trained by reinforcement: what went in, what came of it, settings."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rlaif.config.ppo import OnlineFile


def model_card(
    method: str,
    settings: Mapping[str, Any],
    facts: Sequence[str],
    *,
    rows: Sequence[Mapping[str, Any]],
    shown: Sequence[str],
) -> str:
    """Return Markdown with the front matter the hub reads.

    Args:
        method: ``PPO``, ``RLOO`` or ``GRPO``.
        settings: Model, scorer and whatever else the training was asked.
        facts: What must be known, a line each.
        rows: Metrics, oldest first.
        shown: Which of them, at the start and at the end.
    """
    first, last = (rows[0], rows[-1]) if rows else ({}, {})
    table = [f"| {name} | {_show(first.get(name))} | {_show(last.get(name))} |" for name in shown]
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        f"tags: [rlaif, {method.lower()}]",
        "---",
        f"# A policy trained with {method}",
        "",
        f"Started from `{settings['model']}`, scored by {settings['scorer']}, trained with "
        f"constitutional-rlaif {version('constitutional-rlaif')}.",
        "",
        *[f"- {fact}" for fact in facts],
        "",
        "| | start | end |",
        "|---|--:|--:|",
        *table,
        "",
        "That the score of this scorer rose says nothing about any other: evaluate on prompts that "
        "were held out, with judges that had no say here.",
        "",
        "## Settings",
        "",
        *[f"- {key}: `{value}`" for key, value in settings.items()],
        "",
    ]
    return "\n".join(lines)


def provenance_of(config: object) -> dict[str, Any]:
    """Return where prompts and reward came from, as far as a training file says.

    Files by their names alone: a card is for others, who do not have these paths.
    """
    if not isinstance(config, OnlineFile):
        return {}
    said = config.model_dump(
        mode="json", include={"prompts", "reward", "length_penalty"}, exclude_defaults=True
    )
    return {f"{name} from": _named(value) for name, value in said.items()}


def _named(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _named(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_named(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "–"
