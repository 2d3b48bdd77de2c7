"""A run as it is read: typed records streamed from the shards, while it is written or after.

Readers need no lock: whatever they see is whole, and what is finished later is simply not there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlaif.config import nearest
from rlaif.errors import InputError
from rlaif.records import Failure, Response, Row
from rlaif.runs import tables
from rlaif.runs.dataset import make_dataset
from rlaif.runs.failures import standing_failures
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


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory as read. Get one from `open_run`.

    Every iterator streams: a few hundred rows are in memory at a time. All raise `RunError` when
    they meet a damaged file, naming it and the way out.
    """

    path: Path
    manifest: Manifest
    keep_orphans: bool = False
    """Whether rows are read whose prompt is no longer in the input."""

    def rows(self) -> Iterator[Row]:
        """Everything, one row a prompt, in no particular order."""
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
        orphans = 0 if self.keep_orphans else self.count_orphans()
        return len(done_ids(self._layout.shards)) - orphans

    def count_orphans(self) -> int:
        """Return how many rows are of prompts that are no longer in the input, or changed since."""
        return len(read_ids(self._layout.orphans))

    def pairs(self) -> Iterator[PairView]:
        """The preference pairs."""
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
        """The responses, revisions included."""
        for row in self.read(["responses"]):
            yield from row.responses

    def judgments(self) -> Iterator[JudgmentView]:
        """The judgments, those without a preference included."""
        for row in self.read(["responses", "judgments"]):
            for judgment in row.judgments:
                first, second = row.response(judgment.first_id), row.response(judgment.second_id)
                yield JudgmentView(row.prompt, first, second, judgment)

    def failures(self) -> Iterator[Failure]:
        """The prompts that could not become a row, each with its last failure."""
        yield from standing_failures(self._layout.failures, self._layout.shards).values()

    def status(self, *, verify: bool = False) -> RunStatus:
        """Count what is there. Damaged files are listed in it rather than raised.

        Args:
            verify: Read every shard to its last byte, to find damage wherever it is.
        """
        return read_status(self.path, self.manifest, verify=verify)

    def ledger(self) -> Ledger:
        """Open the ledger to read it; close it when done.

        Raises:
            RunError: It is missing or damaged.
        """
        return Ledger.open(self._layout.ledger, read_only=True)

    def to_dataset(self, what: str = "pairs") -> "datasets.Dataset":
        """Return one kind of record as a data set that is read from a temporary file.

        Args:
            what: ``pairs``, ``prompts``, ``responses``, ``judgments``, ``demonstrations`` or
                ``revisions``.

        Raises:
            InputError: Unknown ``what``, or ``datasets`` is not installed.
        """
        if what not in tables.TABLES:
            raise InputError(f"{what}: no such records{nearest(what, list(tables.TABLES))}")
        table = tables.TABLES[what]
        return make_dataset(table.records(self), table.schema)

    @property
    def _layout(self) -> Layout:
        return Layout(self.path)


def open_run(path: str | Path, *, keep_orphans: bool = False) -> Run:
    """Open a run to read it: a directory, or a URL such as ``s3://bucket/run``.

    Args:
        path: Where it is.
        keep_orphans: Read rows too whose prompt is no longer in the input, or changed since.

    Raises:
        InputError: There is no run at this path.
        RunError: Its manifest is damaged.
        RunMismatch: It was written by a newer version.
    """
    root, url = local_copy(path), url_of(path)
    try:
        return Run(root, load_manifest(root), keep_orphans)
    except FileNotFoundError as error:
        if url is not None:
            raise InputError(f"{url}: there is no run") from error
        raise InputError(_why_no_run(root), hint=_where_runs_are(root)) from error


def _why_no_run(root: Path) -> str:
    if root.is_dir():
        return f"{root}: is no run directory (it has no {Layout(root).manifest.name})"
    return f"{root}: there is no run"


def _where_runs_are(root: Path) -> str:
    near = next((folder for folder in (root, *root.parents) if folder.is_dir()), root)
    try:
        found = sorted(one for one in near.iterdir() if Layout(one).manifest.is_file())
    except OSError:
        found = []
    if not found:
        return "name a directory that `rlaif generate` wrote"
    return f"there is {', '.join(map(str, found[:3]))}"
