"""Results: a scorecard as Markdown and as a Rich table, and the files of a finished evaluation.

responses.jsonl   one response a line with its values, and one line per failure
judgments.jsonl   one judged match a line; only where judges were asked
report.md         the scorecard for people
scorecard.json    the scorecard, written last: where it is, the evaluation is finished
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from rich.markup import escape
from rich.table import Table

from rlaif.evaluation.compare import Evaluation
from rlaif.evaluation.measure import Measure
from rlaif.evaluation.scorecard import (
    EVERYWHERE,
    Estimate,
    Scorecard,
    find_estimate,
    write_scorecard,
    write_whole,
)
from rlaif.runs.text import fix_json

UNKNOWN = "–"
"""Shown in place of a missing number."""

_CORRECTIONS = {
    "holm": "Holm",
    "bh": "Benjamini and Hochberg: of those below .05, one in twenty is false on average",
}

_BY_TAG = (
    "rules",
    "refusals",
    "refusals/judged",
    "wins/judges",
    "wins/judges/length-controlled",
    "wins/rules",
)
"""Measures whose meaning depends on the kind of prompt: shown for each tag."""


def render_table(card: Scorecard, slice: str = EVERYWHERE) -> Table:
    """Return the measures of one slice as a table for a terminal."""
    table = Table(title=escape(_title(card, slice)), title_justify="left")
    header, *rows = _rows(card, slice)
    table.add_column(header[0], no_wrap=True)
    for name in header[1:]:
        table.add_column(escape(name), justify="right")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def render_markdown(card: Scorecard) -> str:
    """Return the whole scorecard as Markdown, with how to read each number."""
    draws = card.draws
    parts = [
        f"# Evaluation {card.name}".rstrip(),
        f"{card.slices[EVERYWHERE]} prompts, {draws['n']} responses each, drawn with the same "
        f"seeds for every model (temperature {draws['temperature']:g}, top_p {draws['top_p']:g}, "
        f"at most {draws['max_tokens']} tokens). Baseline: {card.baseline}. "
        f"Constitution: {card.constitution}.",
        "Every number is a mean over prompts, with its 95 % interval over prompts in brackets; a "
        "change is the model minus the baseline, paired by prompt. Shares are in per cent, their "
        f"changes in percentage points. {UNKNOWN} means that nothing could be scored.",
    ]
    if card.notices:
        parts.append("\n".join(f"- **Note:** {_cell(notice)}" for notice in card.notices))
    parts += ["## All prompts", _markdown_table(_rows(card, EVERYWHERE))]
    if len(card.slices) > 1:
        parts += ["## By tag", _markdown_table(_rows_by_tag(card))]
    parts += _between_models(card)
    parts += ["## What the measures say, and what they cannot tell", _glossary(card)]
    if card.failures:
        failed = [["what failed", "times"], *([k, str(n)] for k, n in card.failures.items())]
        parts += ["## Failures", _markdown_table(failed)]
    parts.append(f"Fingerprint: `{card.fingerprint}`")
    return "\n\n".join(parts) + "\n"


def format_estimate(estimate: Estimate, measure: Measure, *, change: bool = False) -> str:
    """Return a number with its interval, such as ``43.2 % [38.1, 48.0]`` or ``+15 [9, 21]``.

    Missing values are counted behind it.
    """
    without = f" ({estimate.unscored} unscored)" if estimate.unscored else ""
    return _with_interval(estimate, measure, change=change) + without


def _with_interval(estimate: Estimate, measure: Measure, *, change: bool) -> str:
    if estimate.estimate is None:
        return UNKNOWN
    share = measure.kind == "share"
    shown = _number(estimate.estimate, share=share, signed=change)
    unit = " %" if share and not change else ""
    if estimate.low is None or estimate.high is None:
        return f"{shown}{unit}"
    low, high = (_number(end, share=share, signed=change) for end in (estimate.low, estimate.high))
    return f"{shown}{unit} [{low}, {high}]"


def _number(value: float, *, share: bool, signed: bool) -> str:
    sign = "+" if signed else ""
    if share:
        return f"{100 * value:{sign}.1f}"
    return f"{value:{sign}.1f}" if abs(value) >= 10 else f"{value:{sign}.3f}"


def _title(card: Scorecard, slice: str) -> str:
    of = "" if slice == EVERYWHERE else f" tagged {slice}"
    return f"{card.name}: {card.slices[slice]} prompts{of}, {card.draws['n']} responses each"


def _rows(card: Scorecard, slice: str) -> list[list[str]]:
    rows = [["measure", *_columns(card)]]
    for measure in card.measures:
        cells = _cells(card, measure, slice)
        if any(cells):
            rows.append([_arrow(measure), *(cell or UNKNOWN for cell in cells)])
    return rows


def _rows_by_tag(card: Scorecard) -> list[list[str]]:
    rows = [["tag", "measure", *_columns(card)]]
    shown = [measure for measure in card.measures if measure.name in _BY_TAG]
    for slice, prompts in card.slices.items():
        if slice == EVERYWHERE:
            continue
        for measure in shown:
            cells = _cells(card, measure, slice)
            if any(cells):
                label = f"{slice} ({prompts})"
                rows.append([label, _arrow(measure), *(cell or UNKNOWN for cell in cells)])
    return rows


def _between_models(card: Scorecard) -> list[str]:
    if not card.differences:
        return []
    apart = [each for each in card.differences if each.adjusted < 0.05]
    text = (
        f"{len(card.differences)} differences were tested together (paired sign flips over "
        f"prompts, p adjusted after {_CORRECTIONS[card.correction]}); {len(apart)} have an "
        "adjusted p below .05. The rest may be alike or too close for so many "
        "prompts: `detectable` in scorecard.json says what would have been found."
    )
    rows = [["model", "against", "measure", "tag", "difference", "adjusted p", "prompts"]]
    for each in apart:
        numbers = [f"{each.difference:+.3f}", f"{each.adjusted:.3f}", str(each.n)]
        rows.append([each.model, each.other, each.measure, each.slice, *numbers])
    return ["## Between models", text, *([_markdown_table(rows)] if apart else [])]


def _columns(card: Scorecard) -> list[str]:
    columns = [card.baseline]
    for model in card.models:
        if model != card.baseline:
            columns += [model, f"change of {model}"]
    return columns


def _cells(card: Scorecard, measure: Measure, slice: str) -> list[str]:
    """Return one cell per column; empty where the scorecard has no such estimate."""
    cells = [_look_up(card.estimates, card.baseline, measure, slice, change=False)]
    for model in card.models:
        if model != card.baseline:
            cells.append(_look_up(card.estimates, model, measure, slice, change=False))
            cells.append(_look_up(card.changes, model, measure, slice, change=True))
    return cells


def _look_up(
    items: Sequence[Estimate], model: str, measure: Measure, slice: str, *, change: bool
) -> str:
    estimate = find_estimate(items, model, measure.name, slice)
    return "" if estimate is None else format_estimate(estimate, measure, change=change)


def _arrow(measure: Measure) -> str:
    return measure.name + {"higher": " ↑", "lower": " ↓", "neither": ""}[measure.better]


def _glossary(card: Scorecard) -> str:
    return "\n".join(
        f"- `{measure.name}`: {_cell(measure.says)}. Cannot tell {_cell(measure.cannot_tell)}."
        for measure in card.measures
    )


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = rows
    right = "|".join(" --: " for _ in header[1:])
    lines = [f"| {' | '.join(map(_cell, header))} |", f"| --- |{right}|"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in body]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Keep text from breaking out of its line or table cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


SCORECARD = "scorecard.json"
RESPONSES = "responses.jsonl"
JUDGMENTS = "judgments.jsonl"
REPORT = "report.md"
RESULTS = (SCORECARD, RESPONSES, JUDGMENTS, REPORT)


def write_results(evaluation: Evaluation, folder: Path) -> None:
    """Write an evaluation into a folder, in the place of what an earlier one left there.

    Raises:
        RunError: Something cannot be written.
    """
    # So that an interruption leaves no old scorecard beside new responses.
    (folder / SCORECARD).unlink(missing_ok=True)
    write_whole(folder / RESPONSES, _json_lines(_responses(evaluation)))
    judgments = _json_lines(_judgments(evaluation))
    if judgments:
        write_whole(folder / JUDGMENTS, judgments)
    else:
        (folder / JUDGMENTS).unlink(missing_ok=True)
    write_whole(folder / REPORT, render_markdown(evaluation.scorecard).encode())
    write_scorecard(evaluation.scorecard, folder / SCORECARD)


def _json_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(fix_json(row)) + b"\n" for row in rows)


def _responses(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for model, groups in evaluation.groups.items():
        measured = [m for m in evaluation.measured[model] if m.measure.of == "response"]
        for group in groups:
            prompt = group.prompt
            for response in group.responses:
                values = {
                    item.measure.name: item.values[prompt.id][response.index]
                    for item in measured
                    if len(item.values.get(prompt.id, ())) > response.index
                }
                yield {
                    "model": model,
                    "prompt_id": prompt.id,
                    "prompt": prompt.text,
                    "tags": list(prompt.tags),
                    "index": response.index,
                    "response": response.text,
                    "finish": response.finish,
                    "tokens": response.tokens,
                    "call": response.call,
                    "values": values,
                }
        for failure in evaluation.failures[model]:
            yield {"model": model, "failure": asdict(failure)}


def _judgments(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    baseline = evaluation.scorecard.baseline
    with_baseline = {(model, baseline): each for model, each in evaluation.judged.items()}
    for (model, other), judged in (with_baseline | dict(evaluation.between)).items():
        for item in judged:
            if item.judgment is not None:
                yield {
                    "model": model,
                    "baseline": other,
                    "prompt_id": item.match.prompt.id,
                    "index": item.match.index,
                    "longer_by": item.match.longer_by,
                    **asdict(item.judgment),
                }
