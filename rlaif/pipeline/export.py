"""Export: rows of a run, exploded into a data set with a card.

``trl`` is the preference format of the contract (conversational, with ``chosen_prob``), which TRL
trains on unchanged. ``messages`` writes whole conversations, for supervised fine-tuning.
"""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.config import nearest
from rlaif.errors import InputError
from rlaif.pipeline.card import data_card
from rlaif.runs import Run, open_run, tables

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    path: Path
    what: str
    records: int
    left_out: int
    """Pairs below the asked margin."""

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
    force: bool = False,
) -> Exported:
    """Write one kind of record of a run to ``out`` as Parquet (``data/``) with a README card.

    ``datasets.load_dataset(str(out))`` reads it. The folder appears whole or not at all.

    Raises:
        InputError: Unknown ``what`` or ``to``, or ``out`` holds something and not ``force``.
        RunError: The run cannot be read.
    """
    source = open_run(run) if not isinstance(run, Run) else run
    target = Path(out)
    records, schema = _source(source, what, to)
    if target.exists() and any(target.iterdir()) and not force:
        raise InputError(f"{target}: already holds files", hint="choose another --out, or --force")
    staging = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    (staging / "data").mkdir(parents=True)
    try:
        kept, left_out = _write(records, schema, staging / "data", min_margin)
        card = data_card(source, what=what, records=kept, left_out=left_out)
        (staging / "README.md").write_text(card, encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Exported(target, what, kept, left_out)


def _source(run: Run, what: str, to: str) -> tuple[Iterator[dict[str, Any]], pa.Schema]:
    if what not in tables.TABLES:
        raise InputError(f"--what {what}: unknown{nearest(what, list(tables.TABLES))}")
    if to not in _FORMATS:
        raise InputError(f"--to {to}: unknown{nearest(to, list(_FORMATS))}")
    table = tables.TABLES[what]
    return _FORMATS[to](table.records(run), table.schema, what)


def _as_trl(
    records: Iterator[dict[str, Any]], schema: pa.Schema, what: str
) -> tuple[Iterator[dict[str, Any]], pa.Schema]:
    del what
    return records, schema


def _as_messages(
    records: Iterator[dict[str, Any]], schema: pa.Schema, what: str
) -> tuple[Iterator[dict[str, Any]], pa.Schema]:
    """Demonstrations as whole conversations in one ``messages`` column."""
    if what != "demonstrations":
        raise InputError(
            f"--to messages holds one conversation a record, which {what} are not",
            hint="use --what demonstrations, or --to trl",
        )
    rest = [field for field in schema if field.name not in ("prompt", "completion")]
    messages = schema.field("prompt").with_name("messages")

    def joined() -> Iterator[dict[str, Any]]:
        for record in records:
            whole = [*record.pop("prompt"), *record.pop("completion")]
            yield {"messages": whole, **record}

    return joined(), pa.schema([messages, *rest])


_FORMATS: Mapping[
    str,
    Callable[
        [Iterator[dict[str, Any]], pa.Schema, str], tuple[Iterator[dict[str, Any]], pa.Schema]
    ],
] = {"trl": _as_trl, "messages": _as_messages}


def _write(
    records: Iterator[dict[str, Any]], schema: pa.Schema, folder: Path, min_margin: float
) -> tuple[int, int]:
    kept = left_out = 0
    path = folder / "train-00000-of-00001.parquet"
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(records):
            wanted = [r for r in batch if r.get("margin") is None or r["margin"] >= min_margin]
            kept += len(wanted)
            left_out += len(batch) - len(wanted)
            writer.write_table(pa.Table.from_pylist(wanted, schema=schema))
    return kept, left_out


def _batches(records: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(itertools.islice(records, _BATCH)):
        yield batch
