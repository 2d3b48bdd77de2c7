"""The final checkpoint: written beside its place, then renamed into it, the weights last.

A quantised base cannot take an adapter up without loss: then only the adapter is written, and the
error of whatever loads ``out`` as a model names it.
"""

import importlib.metadata
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaif.config.train import ModelSettings
from rlaif.training.harness.figures import meaning_of, summarise
from rlaif.training.harness.folder import TrainResult
from rlaif.training.harness.inputs import Inputs
from rlaif.training.harness.metrics import draw_curves, read_metrics


def staging_folder(out: Path) -> Path:
    """Where the files of a checkpoint are written before `publish` moves them into ``out``."""
    return out / ".saving"


def write_model(
    model: Any,
    folder: Path,
    *,
    write: Callable[[str], None] | None = None,
    main: bool = True,
) -> None:
    """Write a model as plain transformers loads it; adapters merged, and kept in ``adapter/``.

    Args:
        model: A transformers or PEFT model; no longer adapted afterwards.
        folder: Receives the files.
        write: Writes the model as it is, where several processes must do so together.
        main: False on all processes but the first, which only join in ``write``.
    """
    adapted = hasattr(model, "peft_config")
    (write or model.save_pretrained)(str(folder / "adapter" if adapted else folder))
    if adapted and main and not getattr(model, "is_loaded_in_4bit", False):
        model.merge_and_unload().save_pretrained(folder)


def publish(staging: Path, out: Path) -> None:
    """Move everything in ``staging`` into ``out``, the weights last, and remove it."""
    for path in staging.rglob("training_args.bin"):
        path.unlink()  # a pickle; nothing of ours is unpickled
    for path in sorted(staging.iterdir(), key=lambda p: p.suffix == ".safetensors"):
        target = out / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    staging.rmdir()


_LIBRARIES = ("constitutional-rlaif", "torch", "transformers", "trl", "peft", "datasets")

_SECTIONED = ("model", "data", "prompts", "reward", "length_penalty")
"""Parts of a plan that the sections above the settings say in words."""

_NAMED = ("reference_model", "critic")
"""Models that a plan holds by content and a card by name."""


def write_card(
    folder: Path,
    *,
    result: TrainResult,
    settings: ModelSettings,
    inputs: Inputs[Any],
    notes: Iterable[str],
    curves: Sequence[str],
    pipeline: str,
) -> None:
    """Write ``README.md``, with the front matter the hub reads, and ``curves.png``.

    Args:
        folder: Receives both.
        result: What the training did.
        settings: Its settings.
        inputs: What it read: the plan, and facts about the data.
        notes: What was assumed or left out.
        curves: Metrics to draw.
        pipeline: ``pipeline_tag`` on the Hub.
    """
    rows = read_metrics(result.out)
    pictured = draw_curves(rows, curves, folder / "curves.png")
    base, name = settings.model, Path(settings.model).name
    shown = {key: value for key, value in inputs.plan.items() if key not in _SECTIONED}
    shown |= {key: getattr(settings, key) for key in _NAMED if hasattr(settings, key)}
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {pipeline}",
        f"base_model: {name if Path(base).exists() else base}",
        f"tags: [rlaif, {result.kind}]",
        "---",
        "",
        f"# {result.out.name}",
        "",
        f"`{name}` after {result.steps} steps of {result.kind} by constitutional-rlaif. "
        + summarise(result.kind, rows[0] if rows else {}, result.metrics),
        "",
        *[line for title, table in inputs.facts.items() for line in _table(title, table)],
        *_figures(rows[0] if rows else {}, _flat(result.metrics)),
        *(["![curves](curves.png)", ""] if pictured else []),
        *_list("Notes", notes),
        *_table("Settings", {key: without_folders(value) for key, value in shown.items()}),
        *_table("Versions", _versions()),
    ]
    (folder / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def without_folders(value: Any) -> Any:
    """Return a setting with files by their names: a card is for others, who lack these paths."""
    if isinstance(value, Mapping):
        return {name: without_folders(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _figures(first: Mapping[str, Any], last: Mapping[str, Any]) -> list[str]:
    """What was measured last, beside the first step where it was measured there, too."""
    rows = [
        f"| {_cell(k)} | {_cell(first.get(k, ''))} | {_cell(v)} | {meaning_of(k)} |"
        for k, v in last.items()
    ]
    head = ["## Figures", "", "| | start | end | meaning |", "|---|--:|--:|---|"]
    return [*head, *rows, ""] if rows else []


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
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
