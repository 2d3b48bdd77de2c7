"""The files of an audit: audit.json, table.md, reliability.png and one calibration per judge."""

import io
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from rlaif.auditing.result import CANNOT_TELL, Audit, JudgeResult, SetResult
from rlaif.auditing.statistics.accuracy import Accuracy
from rlaif.auditing.statistics.reliability import Reliability
from rlaif.errors import InputError
from rlaif.evaluation.intervals import Figure
from rlaif.judging.calibration import Calibration
from rlaif.runs.files import write_whole

_INK, _MUTED, _GRID, _BAR = "#1a1a1a", "#666666", "#d9d9d9", "#4477aa"


def draw_reliability(audit: Audit) -> bytes:
    """Return a PNG. Rows are judges, columns gold sets; bars carry 95 % intervals.

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
        ends = [
            one.accuracy if end is None else end for end in (one.accuracy_low, one.accuracy_high)
        ]
        ax.plot(
            [one.confidence] * len(ends),
            ends,
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


def render_audit(audit: Audit) -> str:
    """Return the whole report."""
    return "\n".join([*_head(audit), *_accuracies(audit), *_judges(audit), *_limits()]) + "\n"


def show(figure: Figure | None, digits: int = 2) -> str:
    """A figure for people: ``0.53 [0.44, 0.61]``; a dash where nothing could be measured."""
    if figure is None:
        return "–"
    value = f"{figure.value:.{digits}f}"
    if figure.method == "at-least":
        bound = figure.high if figure.low is None else figure.low
        return f"{value} or {'lower' if figure.low is None else 'higher'}" + (
            "" if bound is None else f" [{bound:.{digits}f}]"
        )
    if figure.low is None or figure.high is None:
        return f"{value} [no interval]"
    return f"{value} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"


def _head(audit: Audit) -> Iterator[str]:
    yield "# Judges on gold"
    yield ""
    asked = f"Asked: `{audit.question}` (principles: {len(audit.principles)})"
    yield f"{asked}, orders: {audit.orders}."
    yield "Brackets are 95 % intervals; prompts, not pairs, were drawn for them."
    yield ""
    rows = []
    for name, counts in audit.gold.items():
        broken = sum(counts["broken"].values())
        rows.append(
            [name, counts["pairs"], counts["prompts"], counts["ties"], counts["read"], broken]
        )
    header = ["gold set", "pairs taken", "prompts", "gold ties", "lines read", "broken lines"]
    yield from _table(header, rows)
    for name, counts in audit.gold.items():
        if counts["broken_lines"]:
            yield f"Broken in {name}: {', '.join(counts['broken_lines'][:20])}"
            yield ""


def _accuracies(audit: Audit) -> Iterator[str]:
    yield "## Accuracy on decided gold"
    yield ""
    rows: list[list[object]] = []
    for name in audit.gold:
        longer = audit.longer[name]
        rows.append([name, "(pick the longer)", *_accuracy(longer)])
        rows += [
            [name, judge, *_accuracy(result.sets[name].accuracy)]
            for judge, result in audit.judges.items()
        ]
    yield from _table(["gold set", "judge", "accuracy", "answered", "against chance"], rows)
    yield (
        f"Of {len(rows)} such intervals about one in twenty misses by luck alone: a single "
        "*above chance* among many is not yet a finding."
    )
    yield ""
    if audit.alpha:
        rows = [[name, show(figure)] for name, figure in audit.alpha.items()]
        yield from _table(["gold set", "agreement among judges (Krippendorff's α)"], rows)


def _accuracy(accuracy: Accuracy) -> list[object]:
    answered = f"{accuracy.answered} of {accuracy.decided}"
    return [show(accuracy.figure), answered, accuracy.against_chance]


def _judges(audit: Audit) -> Iterator[str]:
    for name, result in audit.judges.items():
        yield f"## {name} ({result.method})"
        yield ""
        sets = list(audit.gold)
        rows = [
            [label, *(cell(result.sets[gold]) for gold in sets)] for label, cell in _ROWS.items()
        ]
        yield from _table(["", *sets], rows)
        yield from _calibration(result)
        yield from _applied(result)
        for gold in sets:
            categories = result.sets[gold].categories
            if categories:
                yield f"Accuracy by category of {gold}:"
                yield ""
                shown = [[kind, *_accuracy(one)] for kind, one in categories.items()]
                yield from _table(["category", "accuracy", "answered", "against chance"], shown)


def _applied(result: JudgeResult) -> Iterator[str]:
    if result.applied:
        yield "How often each principle had a bearing, as the judge says:"
        yield ""
        rows = [[name, own["relevant"], own["irrelevant"]] for name, own in result.applied.items()]
        yield from _table(["principle", "it had", "it had not"], rows)


def _calibration(result: JudgeResult) -> Iterator[str]:
    fitted, tried = result.calibration, result.label_calibration
    if isinstance(fitted, str) or tried is None:
        yield f"Calibration of the label: {fitted}."
    else:
        softened = "" if tried.soften == 1.0 else f" after drawing towards ½ by {tried.soften:g}"
        yield (
            f"Calibration of the label: T = {tried.t:.3g}{softened}, fitted on {tried.labels} "
            f"labels; {tried}. Written to `{fitted['file']}`."
        )
    yield ""


def _silence(result: SetResult) -> str:
    silence = result.silence
    reasons = ", ".join(f"{reason} {count}" for reason, count in silence.reasons.items())
    return f"{show(silence.abstained)}{f' ({reasons})' if reasons else ''}"


def _cost(result: SetResult) -> str:
    cost = result.cost
    if cost is None:
        return "–"
    price = "" if cost.price_per_label is None else f", {cost.price_per_label:.2g} per label"
    tokens = f"{cost.prompt_tokens:.0f} + {cost.completion_tokens:.0f} tokens"
    return f"{cost.calls.value:.3g} calls, {tokens}{price}"


_ROWS = {
    "ties where gold ties": lambda r: show(r.tie_agreement),
    "Cohen's κ with gold": lambda r: show(r.kappa),
    "same choice in both orders": lambda r: show(r.position.consistency),
    "position bias, log-odds for the first": lambda r: show(r.position.bias),
    "of the inconsistent: first minus second": lambda r: show(r.position.fairness),
    "length, log-odds per doubling (log-odds)": lambda r: show(r.length_log_odds),
    "length, log-odds per doubling (picks)": lambda r: show(r.length_picks),
    "ties": lambda r: show(r.silence.ties),
    "verdicts that abstain": _silence,
    "pairs without preference": lambda r: show(r.silence.undecided),
    "expected calibration error": lambda r: show(r.reliability and r.reliability.ece),
    "Brier score (always ½: 0.25)": lambda r: show(r.reliability and r.reliability.brier),
    "label mass, mean": lambda r: show(r.mass and r.mass.mean),
    "label mass, median": lambda r: "–" if r.mass is None else f"{r.mass.median:.2g}",
    "same choice when asked again": lambda r: show(r.stability),
    "cyclic triads (coin: 0.25)": lambda r: show(r.triads and r.triads.cyclic),
    "cost of a pair": _cost,
}


def _limits() -> Iterator[str]:
    yield "## What these figures cannot tell"
    yield ""
    for name, limit in CANNOT_TELL.items():
        yield f"- **{name.replace('_', ' ')}**: {limit}"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |"
    yield ""


AUDIT = "audit.json"
TABLE = "table.md"
PICTURE = "reliability.png"


def calibration_file(judge: str) -> str:
    """Return the name of the file with a judge's calibration."""
    return f"calibration-{judge}.json"


def check_extra(judges: int) -> None:
    """Check that the libraries needed to write results are installed, before anything is asked.

    Raises:
        InputError: matplotlib, or for several judges krippendorff, is not installed.
    """
    needed = ["matplotlib", *(["krippendorff"] if judges > 1 else [])]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise InputError(
            f"an audit needs {' and '.join(missing)}, which is not installed",
            hint="pip install 'constitutional-rlaif[audit]'",
        )


def write_audit(out: Path, audit: Audit, calibrations: Mapping[str, Calibration]) -> None:
    """Write everything into an existing folder; audit.json last, so its being there says: whole.

    Raises:
        RunError: The folder cannot be written.
    """
    for name, calibration in calibrations.items():
        write_whole(out / calibration_file(name), _json(calibration.to_json()))
    write_whole(out / PICTURE, draw_reliability(audit))
    write_whole(out / TABLE, render_audit(audit).encode())
    write_whole(out / AUDIT, _json(audit.to_json()))


def _json(data: dict[str, Any]) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_INDENT_2) + b"\n"
