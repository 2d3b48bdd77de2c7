"""Export: rows of a run, exploded into a data set with a card, in the words of one consumer."""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.config import nearest
from rlaif.errors import InputError, RunError
from rlaif.pipeline.achieved import why_failed
from rlaif.pipeline.export.axolotl import AXOLOTL
from rlaif.pipeline.export.card import data_card
from rlaif.pipeline.export.folder import CARD, export_folder
from rlaif.pipeline.export.labels import Labels
from rlaif.pipeline.export.llama_factory import LLAMA_FACTORY
from rlaif.pipeline.export.openrlhf import OPENRLHF
from rlaif.pipeline.export.shape import DATA_FILE, MESSAGES, TRL, Format, Record, Shape
from rlaif.pipeline.export.verl import VERL
from rlaif.records.plain import Plain
from rlaif.records.tool_use import uses_tools
from rlaif.runs import Run, open_run, tables
from rlaif.runs.layout import Layout
from rlaif.runs.shards import hold_tools

_BATCH = 1000

_NO_TURNS = "have turns that do not alternate"
_NO_TOOLS = "call or define tools, or name who speaks, which the format does not hold"

FORMATS: Mapping[str, Format] = {
    one.name: one for one in (TRL, MESSAGES, OPENRLHF, VERL, LLAMA_FACTORY, AXOLOTL)
}
"""What ``to`` may be."""


@dataclass(frozen=True, slots=True)
class Exported(Plain):
    """What an export wrote."""

    path: Path
    what: str
    records: int
    left_out: int
    """Pairs below the asked margin."""

    to: str = "trl"
    unsayable: int = 0
    """Records that the format cannot hold: turns that do not alternate, calls of tools."""

    label_smoothing: float | None = None
    """mean(1 − p) over the pairs, for trainers that know no soft labels; else None."""


def export(  # noqa: PLR0913 - one parameter an option
    run: str | Path | Run,
    out: str | Path,
    *,
    what: str = "pairs",
    to: str = "trl",
    min_margin: float = 0.0,
    repeat: int = 1,
    revisions: tables.Steps = "last",
    force: bool = False,
) -> Exported:
    """Write one kind of record of a run to ``out`` as Parquet (``data/``) with a README card.

    ``datasets.load_dataset(str(out))`` reads it. The folder appears whole or not at all; a crash
    while it replaces an earlier export leaves one of the two.

    Args:
        run: The run, or its directory.
        out: The folder to write.
        what: A kind of record: a key of `rlaif.runs.tables.TABLES`.
        to: Whose format: a key of `FORMATS`.
        min_margin: Leave out pairs with a smaller margin 2·|p − ½|.
        repeat: For formats without soft labels: write every pair this many times, swapped in the
            share 1 − p; see `rlaif.pipeline.export.labels`.
        revisions: Of demonstrations and revisions: those of the last round, the best ones, or all,
            as SL-CAI trains on them.
        force: Replace an earlier export, and nothing else.

    Raises:
        InputError: Unknown ``what`` or ``to``, two that do not fit, ``repeat`` where labels are
            soft, or ``out`` holds something that is not an earlier export, or not ``force``.
        RunError: The run cannot be read or has no such record, or ``out`` cannot be written; an
            earlier export is left as it is.
    """
    form, make_shape = _shape(what, to)
    _check_repeat(form, what, repeat)
    _check_revisions(what, revisions)
    source = open_run(run) if not isinstance(run, Run) else run
    schema = tables.TABLES[what].schema
    if form.holds_tools and hold_tools(Layout(source.path).shards):
        schema = tables.with_tools(schema)
    shape = make_shape(schema)
    target = Path(out)
    about = {"schema": 1, "run": source.manifest.label, "what": what, "to": to}
    if revisions != "last":
        about["revisions"] = revisions
    with export_folder(target, run=source.path, about=about, force=force) as folder:
        labels = Labels(min_margin, repeat)
        records = labels.apply(_records(what, revisions)(source))
        written, reasons = _write(records, form, shape, folder / DATA_FILE)
        if not written:
            raise _nothing(source, what, labels.left_out, reasons)
        unsayable = reasons.total()
        smoothing = labels.smoothing if form.hard_labels and repeat == 1 else None
        found = Exported(target, what, written, labels.left_out, to, unsayable, smoothing)
        card = data_card(
            source,
            what=what,
            columns=shape.schema.names,
            records=written,
            left_out=labels.left_out,
            digest=_digest(folder / DATA_FILE),
        )
        files = {CARD: card + _told(form, found, repeat, reasons)}
        for name, text in (files | dict(form.files(what, source.manifest.name))).items():
            (folder / name).write_text(text, encoding="utf-8")
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _nothing(run: Run, what: str, left_out: int, reasons: Counter[str]) -> RunError:
    if left_out or reasons:
        counted = [f"{left_out} are below the margin", *_counted(reasons)]
        return RunError(
            f"nothing to export of the {what}: {', '.join(counted)}",
            hint="lower --min-margin, or choose another --to",
        )
    return RunError(f"nothing to export: the run has no {what}{why_failed(run)}")


def _counted(reasons: Counter[str]) -> list[str]:
    return [f"{count} {reason}" for reason, count in reasons.items()]


def _shape(what: str, to: str) -> tuple[Format, Callable[[pa.Schema], Shape]]:
    if what not in tables.TABLES:
        raise InputError(f"--what {what}: unknown{nearest(what, list(tables.TABLES))}")
    if to not in FORMATS:
        raise InputError(f"--to {to}: unknown{nearest(to, list(FORMATS))}")
    form = FORMATS[to]
    if what not in form.shapes:
        raise InputError(
            f"--to {to} has no {what}: {form.refused[what]}",
            hint=f"--what {', '.join(form.shapes)}; or --to trl, which has everything",
        )
    return form, form.shapes[what]


def _check_repeat(form: Format, what: str, repeat: int) -> None:
    if repeat < 1:
        raise InputError(f"--repeat {repeat}: at least 1")
    if repeat > 1 and (what != "pairs" or not form.hard_labels):
        raise InputError(
            f"--repeat {repeat}: only for pairs in formats without soft labels",
            hint=f"{form.name} keeps every label as it is: leave it out",
        )


_REVISED: Mapping[str, Callable[..., Iterator[Record]]] = {
    "demonstrations": tables.demonstration_records,
    "revisions": tables.revision_records,
}


def _check_revisions(what: str, revisions: str) -> None:
    if revisions not in tables.STEPS:
        raise InputError(f"--revisions {revisions}: unknown{nearest(revisions, tables.STEPS)}")
    if revisions != "last" and what not in _REVISED:
        raise InputError(
            f"--revisions {revisions}: has no effect on {what}",
            hint=f"it is for --what {' and '.join(_REVISED)}",
        )


def _records(what: str, revisions: tables.Steps) -> Callable[[Run], Iterator[Record]]:
    if what in _REVISED:
        return partial(_REVISED[what], revisions=revisions)
    return tables.TABLES[what].records


def _told(form: Format, found: Exported, repeat: int, reasons: Counter[str]) -> str:
    """What the card says beside: whose format it is, and what became of soft labels."""
    lines = ["", "## Format", "", f"Written for {form.name}; see docs/handoff in the project."]
    lines += [f"{count} records were left out: they {why}." for why, count in reasons.items()]
    if form.hard_labels and found.what == "pairs":
        lines += ["", "## Soft labels", "", _labels_told(form, found, repeat)]
    return "\n".join(lines) + "\n"


def _labels_told(form: Format, found: Exported, repeat: int) -> str:
    if repeat > 1:
        return (
            f"Every pair is written {repeat} times: round(p·{repeat}) times as labelled, the rest "
            "swapped. A hard loss on these is the soft loss with p rounded to "
            f"{1 / repeat:.3g}. Set no label smoothing; `margin`, where there is one, is 0."
        )
    if found.label_smoothing is None:
        return "There are no pairs."
    where = (
        f"Give its trainer `{form.smoothing}` = {found.label_smoothing:.4f}"
        if form.smoothing
        else "Its loss takes no label smoothing"
    )
    return (
        f"Its trainers take every label as certain; the judges were not: mean(1 − p) = "
        f"{found.label_smoothing:.4f}. {where}, or export again with `--min-margin`, or with "
        "`--repeat 10`, which keeps each pair's own label."
    )


def _write(
    records: Iterator[Record], form: Format, shape: Shape, path: Path
) -> tuple[int, Counter[str]]:
    """Return how many were written, and for what reasons how many were not."""
    written, reasons = 0, Counter[str]()
    with pq.ParquetWriter(path, shape.schema, compression="zstd") as writer:
        for batch in _batches(records):
            rows: list[Record] = []
            for record in batch:
                if not form.holds_tools and _has_tools(record):
                    reasons[_NO_TOOLS] += 1
                    continue
                row = shape.convert(record, written + len(rows))
                if row is None:
                    reasons[_NO_TURNS] += 1
                else:
                    rows.append(row)
            written += len(rows)
            writer.write_table(pa.Table.from_pylist(rows, schema=shape.schema))
    return written, reasons


def _has_tools(record: Record) -> bool:
    return tables.TOOLS in record or uses_tools(record["prompt"])


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    while batch := list(itertools.islice(records, _BATCH)):
        yield batch
