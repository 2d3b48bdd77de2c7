"""Results: the files of a finished evaluation, each written whole, the scorecard last.

responses.jsonl   one response a line with its values, and one line per failure
judgments.jsonl   one judged match a line; only where judges were asked
report.md         the scorecard for people
scorecard.json    the scorecard; its being there says that the evaluation is finished
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from rlaif.evaluation.compare import Evaluation
from rlaif.evaluation.render import render_markdown
from rlaif.evaluation.scorecard import write_scorecard, write_whole
from rlaif.runs.text import fix_json

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
    # An old scorecard must not stand beside new responses, should this be interrupted.
    (folder / SCORECARD).unlink(missing_ok=True)
    write_whole(folder / RESPONSES, _lines(_responses(evaluation)))
    judgments = _lines(_judgments(evaluation))
    if judgments:
        write_whole(folder / JUDGMENTS, judgments)
    else:
        (folder / JUDGMENTS).unlink(missing_ok=True)
    write_whole(folder / REPORT, render_markdown(evaluation.scorecard).encode())
    write_scorecard(evaluation.scorecard, folder / SCORECARD)


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
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
    for model, judged in evaluation.judged.items():
        for item in judged:
            if item.judgment is not None:
                yield {
                    "model": model,
                    "baseline": evaluation.scorecard.baseline,
                    "prompt_id": item.match.prompt.id,
                    "index": item.match.index,
                    "longer_by": item.match.longer_by,
                    **asdict(item.judgment),
                }
