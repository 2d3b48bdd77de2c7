"""Runs on disk: ledger, shards, manifest, lock. No other package reads or writes them."""

from rlaif.runs import tables
from rlaif.runs.ids import IdSet
from rlaif.runs.ledger.entry import Entry, Total
from rlaif.runs.ledger.ledger import Ledger
from rlaif.runs.manifest import Manifest
from rlaif.runs.run import Run, open_run
from rlaif.runs.schema import ROW_SCHEMA, row_from_dict, row_to_dict
from rlaif.runs.shards import done_ids, read_rows, write_shard
from rlaif.runs.status import RunStatus
from rlaif.runs.views import JudgmentView, PairView
from rlaif.runs.writer import RunWriter

__all__ = [
    "ROW_SCHEMA",
    "Entry",
    "IdSet",
    "JudgmentView",
    "Ledger",
    "Manifest",
    "PairView",
    "Run",
    "RunStatus",
    "RunWriter",
    "Total",
    "done_ids",
    "open_run",
    "read_rows",
    "row_from_dict",
    "row_to_dict",
    "tables",
    "write_shard",
]
