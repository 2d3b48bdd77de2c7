"""Where experiments find real data, and how they leave what they measured: JSON and a picture."""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaif.errors import RlaifError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SIDES = ("pairwise", "prompts")

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Lines of one panel, by label."""


def arguments(about: str, *, data: bool = False) -> argparse.ArgumentParser:
    """Return the options all experiments share."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", type=Path, default=ROOT / "experiments", help="trainings go here")
    parser.add_argument("--record", type=Path, default=ROOT / "docs" / "experiments")
    parser.add_argument("--smoke", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--force", action="store_true", help="start over")
    if data:
        parser.add_argument("--data", type=Path, required=True, help="folder with pairwise/*.jsonl")
    return parser


def carry_out(main: Callable[[], None]) -> None:
    """Run an experiment; what is wrong is one line, as in the commands."""
    try:
        main()
    except RlaifError as problem:
        sys.exit(str(problem))


def pairs_of(data: Path, *names: str) -> list[dict[str, Any]]:
    """Return the labelled pairs of some files, or end with one clear line."""
    rows: list[dict[str, Any]] = []
    for name in names:
        path = data / "pairwise" / f"{name}.jsonl"
        if not path.is_file():
            sys.exit(
                f"{path}: no such file; --data names a folder with pairwise/{name}.jsonl, each "
                "line with prompt, response_a, response_b and label (a, b or tie)"
            )
        rows += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def keep(
    folder: Path, name: str, measured: Mapping[str, Any], panels: Mapping[str, Series]
) -> None:
    """Write ``name.json`` and ``name.png``, and print what was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))
    document = {"date": time.strftime("%Y-%m-%d"), "cores": cores, **measured}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)
    _draw(panels, folder / f"{name}.png")


def smooth(points: Sequence[tuple[float, float]], width: int) -> list[tuple[float, float]]:
    """Return a running mean over ``width`` points."""
    values = [value for _, value in points]
    return [
        (points[i][0], statistics.fmean(values[max(0, i + 1 - width) : i + 1]))
        for i in range(len(points))
    ]


def _draw(panels: Mapping[str, Series], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(panels), 2.6), layout="constrained")
    for place, (title, lines) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for label, points in lines.items():
            axes.plot(*zip(*points, strict=True), linewidth=1.2, label=label)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize=7)
    figure.savefig(path, dpi=90)
