"""The reliability diagram: confidence against accuracy, one panel per judge and gold set."""

import io
from typing import Any

from rlaif.audit.result import Audit
from rlaif.audit.statistics.reliability import Reliability

_INK, _MUTED, _GRID, _BAR = "#1a1a1a", "#666666", "#d9d9d9", "#4477aa"


def draw_reliability(audit: Audit) -> bytes:
    """Return a PNG. Rows are judges, columns gold sets; bars carry Wilson intervals.

    Points on the diagonal are a calibrated judge's; the size of a point grows with its pairs.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = len(audit.judges), len(audit.gold)
    figure = Figure(figsize=(0.6 + 2.6 * columns, 0.6 + 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for row, (judge, result) in enumerate(audit.judges.items()):
        for column, gold in enumerate(audit.gold):
            ax = axes[row][column]
            _draw(ax, result.sets[gold].reliability)
            if row == 0:
                ax.set_title(gold, fontsize=9, color=_INK)
            if column == 0:
                ax.set_ylabel(f"{judge}\naccuracy", fontsize=8, color=_INK)
            if row == rows - 1:
                ax.set_xlabel("confidence", fontsize=8, color=_INK)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": "rlaif"})
    return buffer.getvalue()


def _draw(ax: Any, reliability: Reliability | None) -> None:
    ax.set_xlim(0.48, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.plot([0.5, 1.0], [0.5, 1.0], color=_MUTED, linewidth=0.8, linestyle="--")
    ax.axhline(0.5, color=_GRID, linewidth=0.8)
    ax.tick_params(labelsize=7, colors=_MUTED, length=2)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if reliability is None:
        ax.text(0.75, 0.3, "nothing to compare", ha="center", fontsize=7, color=_MUTED)
        return
    most = max(one.n for one in reliability.bins)
    for one in reliability.bins:
        ax.plot(
            [one.confidence] * 2,
            [one.accuracy_low, one.accuracy_high],
            color=_BAR,
            linewidth=1.0,
            alpha=0.6,
        )
        ax.plot(
            one.confidence,
            one.accuracy,
            marker="o",
            markersize=3.0 + 4.0 * (one.n / most) ** 0.5,
            color=_BAR,
        )
    ax.text(
        0.98,
        0.04,
        f"ECE {reliability.ece.value:.2f}, n {reliability.ece.n}",
        transform=ax.transAxes,
        ha="right",
        fontsize=7,
        color=_INK,
    )
