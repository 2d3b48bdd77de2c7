"""Export: rows of a run, exploded into a data set with a card, in the words of one consumer."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
from rlaif.runs import Run, open_run, tables

_BATCH = 1000

FORMATS: Mapping[str, Format] = {
    one.name: one for one in (TRL, MESSAGES, OPENRLHF, VERL, LLAMA_FACTORY, AXOLOTL)
}
"""What ``to`` may be."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    path: Path
    what: str
    records: int
    left_out: int
    """Pairs below the asked margin."""

    to: str = "trl"
    unsayable: int = 0
    """Records that the format has no words for, such as turns that do not alternate."""

    label_smoothing: float | None = None
    """mean(1 − p) over the pairs, for trainers that know no soft labels; else None."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dictionary."""
        return {**asdict(self), "path": str(self.path)}


def export(
    run: str | Path | Run,
    out: str | Path,
    *,
    what: str = "pairs",
    to: str = "trl",
    min_margin: float = 0.0,
    repeat: int = 1,
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
        force: Replace an earlier export, and nothing else.

    Raises:
        InputError: Unknown ``what`` or ``to``, two that do not fit, ``repeat`` where labels are
            soft, or ``out`` holds something that is not an earlier export, or not ``force``.
        RunError: The run cannot be read or has no such record, or ``out`` cannot be written; an
            earlier export is left as it is.
    """
    form, shape = _shape(what, to)
    _check_repeat(form, what, repeat)
    source = open_run(run) if not isinstance(run, Run) else run
    target = Path(out)
    about = {"schema": 1, "run": source.manifest.label, "what": what, "to": to}
    with export_folder(target, run=source.path, about=about, force=force) as folder:
        labels = Labels(min_margin, repeat)
        records = labels.apply(tables.TABLES[what].records(source))
        written, unsayable = _write(records, shape, folder / DATA_FILE)
        if not written:
            raise _nothing(source, what, labels.left_out, unsayable)
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
        files = {CARD: card + _told(form, found, repeat)}
        for name, text in (files | dict(form.files(what, source.manifest.name))).items():
            (folder / name).write_text(text, encoding="utf-8")
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _nothing(run: Run, what: str, left_out: int, unsayable: int) -> RunError:
    if left_out or unsayable:
        return RunError(
            f"nothing to export: {left_out} {what} are below the margin, and the turns of "
            f"{unsayable} do not alternate",
            hint="lower --min-margin, or choose another --to",
        )
    return RunError(f"nothing to export: the run has no {what}{why_failed(run)}")


def _shape(what: str, to: str) -> tuple[Format, Shape]:
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
    return form, form.shapes[what](tables.TABLES[what].schema)


def _check_repeat(form: Format, what: str, repeat: int) -> None:
    if repeat < 1:
        raise InputError(f"--repeat {repeat}: at least 1")
    if repeat > 1 and (what != "pairs" or not form.hard_labels):
        raise InputError(
            f"--repeat {repeat}: only for pairs in formats without soft labels",
            hint=f"{form.name} keeps every label as it is: leave it out",
        )


def _told(form: Format, found: Exported, repeat: int) -> str:
    """What the card says beside: whose format it is, and what became of soft labels."""
    lines = ["", "## Format", "", f"Written for {form.name}; see docs/handoff in the project."]
    if found.unsayable:
        lines.append(
            f"{found.unsayable} records were left out because their turns do not alternate."
        )
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


def _write(records: Iterator[Record], shape: Shape, path: Path) -> tuple[int, int]:
    written = unsayable = 0
    with pq.ParquetWriter(path, shape.schema, compression="zstd") as writer:
        for batch in _batches(records):
            rows: list[Record] = []
            for record in batch:
                row = shape.convert(record, written + len(rows))
                if row is None:
                    unsayable += 1
                else:
                    rows.append(row)
            written += len(rows)
            writer.write_table(pa.Table.from_pylist(rows, schema=shape.schema))
    return written, unsayable


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    while batch := list(itertools.islice(records, _BATCH)):
        yield batch
