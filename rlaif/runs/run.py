"""Reading a run: typed records streamed from the shards, also while it is written.

Readers need no lock: every file they see is complete.
"""

import atexit
import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rlaif.config import nearest
from rlaif.errors import InputError
from rlaif.records import Failure, Response, Row
from rlaif.runs import tables
from rlaif.runs.failures import standing_failures
from rlaif.runs.files import cannot_write
from rlaif.runs.ids import IdSet, read_ids
from rlaif.runs.layout import Layout
from rlaif.runs.ledger.ledger import Ledger
from rlaif.runs.manifest import Manifest, load_manifest
from rlaif.runs.shards import done_ids, read_rows
from rlaif.runs.status import RunStatus, read_status
from rlaif.runs.stores import local_copy, url_of
from rlaif.runs.views import JudgmentView, PairView

if TYPE_CHECKING:
    import datasets

_BATCH_RECORDS = 1000


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory open for reading; `open_run` returns one.

    Every iterator streams: a few hundred rows are in memory at a time. All raise `RunError` at a
    damaged file, with its name and the fix.
    """

    path: Path
    manifest: Manifest
    keep_orphans: bool = False
    """Whether rows are read whose prompt is no longer in the input."""

    def rows(self) -> Iterator[Row]:
        """Yield every row, one per prompt, in arbitrary order."""
        return self.read()

    def read(self, parts: Sequence[str] | None = None) -> Iterator[Row]:
        """Yield rows with only these parts, such as ``responses``, and the prompt.

        Args:
            parts: Names of fields of a row; all when None.
        """
        orphans = IdSet() if self.keep_orphans else read_ids(self._layout.orphans)
        return read_rows(self._layout.shards, parts, without=orphans)

    def count_rows(self) -> int:
        """Return how many rows there are, reading their ids alone."""
        done = done_ids(self._layout.shards)
        orphans = IdSet() if self.keep_orphans else read_ids(self._layout.orphans)
        return len(done) - done.count_common(orphans)

    def count_orphans(self) -> int:
        """Return how many rows are of prompts that are no longer in the input, or changed since."""
        orphans = read_ids(self._layout.orphans)
        return done_ids(self._layout.shards).count_common(orphans) if orphans else 0

    def pairs(self) -> Iterator[PairView]:
        """Yield the preference pairs."""
        for row in self.read(["responses", "pairs"]):
            for pair in row.pairs:
                yield PairView(
                    prompt=row.prompt,
                    chosen=row.response(pair.chosen_id),
                    rejected=row.response(pair.rejected_id),
                    chosen_prob=pair.chosen_prob,
                    margin=pair.margin,
                    principles=pair.principles,
                    judges=pair.judges,
                    agreement=pair.agreement,
                    abstained=pair.abstained,
                )

    def responses(self) -> Iterator[Response]:
        """Yield the responses, revisions included."""
        for row in self.read(["responses"]):
            yield from row.responses

    def judgments(self) -> Iterator[JudgmentView]:
        """Yield the judgments, including those without a preference."""
        for row in self.read(["responses", "judgments"]):
            for judgment in row.judgments:
                first, second = row.response(judgment.first_id), row.response(judgment.second_id)
                yield JudgmentView(row.prompt, first, second, judgment)

    def failures(self) -> Iterator[Failure]:
        """Yield the last failure of every prompt without a row."""
        yield from standing_failures(self._layout.failures, self._layout.shards).values()

    def status(self, *, verify: bool = False) -> RunStatus:
        """Return counts and spend. Damaged files are listed in the status, not raised.

        Args:
            verify: Read every shard to its last byte to find all damage.
        """
        return read_status(self.path, self.manifest, verify=verify)

    def ledger(self) -> Ledger:
        """Open the ledger for reading; close it when done.

        Raises:
            RunError: It is missing or damaged.
        """
        return Ledger.open(self._layout.ledger, read_only=True)

    def to_dataset(self, what: str = "pairs") -> "datasets.Dataset":
        """Return one kind of record as a data set backed by a temporary file.

        Args:
            what: ``pairs``, ``prompts``, ``responses``, ``judgments``, ``demonstrations`` or
                ``revisions``.

        Raises:
            InputError: Unknown ``what``, or ``datasets`` is not installed.
        """
        if what not in tables.TABLES:
            raise InputError(f"unknown kind of records: {what}{nearest(what, list(tables.TABLES))}")
        table = tables.TABLES[what]
        return _make_dataset(table.records(self), table.schema)

    @property
    def _layout(self) -> Layout:
        return Layout(self.path)


def open_run(path: str | Path, *, keep_orphans: bool = False) -> Run:
    """Open a run for reading: a directory, or a URL such as ``s3://bucket/run``.

    Args:
        path: Where it is.
        keep_orphans: Read rows too whose prompt is no longer in the input, or changed since.

    Raises:
        InputError: The path is not a run.
        RunError: Its manifest is damaged.
        RunMismatch: It was written by a newer version.
    """
    root, url = local_copy(path), url_of(path)
    try:
        return Run(root, load_manifest(root), keep_orphans)
    except FileNotFoundError as error:
        if url is not None:
            raise InputError(f"{url}: run not found") from error
        raise InputError(_why_no_run(root), hint=_where_runs_are(root)) from error


def _why_no_run(root: Path) -> str:
    if root.is_dir():
        return f"{root}: not a run directory (it has no {Layout(root).manifest.name})"
    return f"{root}: run not found"


def _where_runs_are(root: Path) -> str:
    near = next((folder for folder in (root, *root.parents) if folder.is_dir()), root)
    try:
        runs = sorted(path for path in near.iterdir() if Layout(path).manifest.is_file())
    except OSError:
        runs = []
    if not runs:
        return "name a directory that `rlaif generate` wrote"
    return f"runs nearby: {', '.join(map(str, runs[:3]))}"


def _make_dataset(records: Iterator[dict[str, Any]], schema: pa.Schema) -> "datasets.Dataset":
    """Write records to a temporary Arrow file and return a data set that maps it.

    The file stays until the process ends, because worker processes open it again by name.

    Raises:
        InputError: ``datasets`` is not installed.
        RunError: The temporary folder is full or cannot be written.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "data sets need the datasets library",
            hint="pip install 'constitutional-rlaif[train]'",
        ) from error
    folder = Path(tempfile.mkdtemp(prefix="rlaif-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "records.arrow"
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            while batch := list(itertools.islice(records, _BATCH_RECORDS)):
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
    except OSError as error:
        raise cannot_write(path, error) from error
    return datasets.Dataset.from_file(str(path))
