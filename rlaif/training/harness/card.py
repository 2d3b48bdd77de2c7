"""The model card: where the policy comes from, in words and figures, beside its weights."""

import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import Dataset

from rlaif.config.ppo import OnlineFile
from rlaif.training.data.read import Loaded
from rlaif.training.harness.folder import TrainResult
from rlaif.training.harness.metrics import draw_curves, read_metrics


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


_PROVENANCE = ("constitution", "run", "judges", "principles")
_LIBRARIES = ("constitutional-rlaif", "torch", "transformers", "trl", "peft", "datasets")
_MOST_VALUES = 12


def write_card(
    out: Path,
    *,
    result: TrainResult,
    plan: Mapping[str, Any],
    model: str,
    loaded: Loaded,
    notes: Iterable[str] = (),
    curves: Iterable[str] = (),
) -> None:
    """Write ``README.md`` and ``curves.png`` into the folder of a training.

    Args:
        out: The training's folder.
        result: What it did.
        plan: What it was asked.
        model: What it started from.
        loaded: The data set, for its provenance columns and labels.
        notes: What was assumed or left out.
        curves: Metrics to draw.
    """
    pictured = draw_curves(read_metrics(out), list(curves), out / "curves.png")
    name = Path(model).name
    lines = [
        "---",
        "library_name: transformers",
        f"base_model: {model if not Path(model).exists() else name}",
        f"tags: [rlaif, {result.kind}]",
        "---",
        "",
        f"# {out.name}",
        "",
        f"`{name}` after {result.steps} steps of {result.kind} by rlaif.",
        "",
        *_data_lines(loaded),
        *_label_lines(loaded.dataset),
        *_table("Figures", _flat(result.metrics)),
        *(["![curves](curves.png)", ""] if pictured else []),
        *_list("Notes", notes),
        *_table("Settings", {k: v for k, v in plan.items() if k not in ("data", "model")}),
        *_table("Versions", _versions()),
    ]
    (out / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def label_statistics(dataset: Dataset) -> dict[str, Any]:
    """Return counts of preference labels: pairs, ties, mean, and a histogram over [0.5, 1]."""
    labels = list(dataset["chosen_prob"])
    bins = Counter(min(int((p - 0.5) * 10 + 1e-9), 4) for p in labels)
    return {
        "pairs": len(labels),
        "ties": sum(p == 0.5 for p in labels),
        "mean": sum(labels) / len(labels),
        "histogram": {f"{0.5 + i / 10:.1f}–{0.6 + i / 10:.1f}": bins[i] for i in range(5)},
    }


def _data_lines(loaded: Loaded) -> list[str]:
    shown = {"source": Path(loaded.name).name, "rows": len(loaded.dataset)}
    lines = _table(
        "Data", shown | {f"left out: {k}": v for k, v in (loaded.left_out or {}).items()}
    )
    for column in _PROVENANCE:
        if column in loaded.dataset.column_names:
            counts = _count_values(loaded.dataset[column])
            most = ", ".join(f"{value} ({n})" for value, n in counts.most_common(_MOST_VALUES))
            rest = len(counts) - _MOST_VALUES
            lines.append(f"- {column}: {most}{f' and {rest} more' if rest > 0 else ''}")
    return lines if lines[-1] == "" else [*lines, ""]


def _count_values(column: Iterable[Any]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for value in column:
        counts.update(map(str, value if isinstance(value, list) else [value]))
    return counts


def _label_lines(dataset: Dataset) -> list[str]:
    if "chosen_prob" not in dataset.column_names:
        return []
    found = label_statistics(dataset)
    histogram = {f"chosen_prob {span}": n for span, n in found.pop("histogram").items()}
    return _table("Labels", found | histogram)


def _flat(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Nested measures as dotted rows."""
    rows: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            rows |= {f"{name}.{key}": inner for key, inner in _flat(value).items()}
        else:
            rows[name] = value
    return rows


def _table(title: str, rows: Mapping[str, Any]) -> list[str]:
    if not rows:
        return []
    body = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return [f"## {title}", "", "| | |", "|---|---|", *body, ""]


def _list(title: str, items: Iterable[str]) -> list[str]:
    lines = [f"- {item}" for item in items]
    return [f"## {title}", "", *lines, ""] if lines else []


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
