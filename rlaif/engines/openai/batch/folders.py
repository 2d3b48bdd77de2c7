"""What survives a crash: a folder per batch, and in it how far the batch has come.

    batches/JUDGE-2f6c…/requests.jsonl    what was asked
    batches/JUDGE-2f6c…/state.json        uploaded, submitted or fetched, with the server's ids
    batches/JUDGE-2f6c…/results-0.jsonl   what came back

Every state is on the disk before the step that follows it. A folder without a state was never
uploaded, so nothing was paid for it.
"""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import orjson

from rlaif.engines.openai.batch.wire import read_result
from rlaif.engines.traffic.transport import Answer
from rlaif.errors import EngineError

ValueT = TypeVar("ValueT")

REQUESTS = "requests.jsonl"
_STATE = "state.json"
_PARTIAL = ".tmp"


@dataclass(frozen=True, slots=True)
class State:
    """How far a batch has come: the fields that are filled say it."""

    file_id: str
    """Of the uploaded requests: a batch over them may have been submitted."""

    created: float
    """Unix seconds, a moment before it could have been submitted."""

    batch_id: str = ""
    """Submitted."""

    results: int | None = None
    """Fetched: how many files of results there are."""


@dataclass(slots=True)
class Kept:
    """One batch on the disk."""

    folder: Path
    state: State | None = None
    """None: not uploaded."""

    @property
    def name(self) -> str:
        """What the batch is called at the server."""
        return self.folder.name

    @property
    def known(self) -> State:
        """The state of a batch that was uploaded."""
        assert self.state is not None
        return self.state

    def uploaded(self, file_id: str) -> None:
        """Note the file, before a batch over it can be submitted."""
        self._save(State(file_id, time.time()))

    def submitted(self, batch_id: str) -> None:
        """Note the batch, before anybody waits for it."""
        self._save(replace(self.known, batch_id=batch_id))

    def fetched(self, results: int) -> None:
        """Note that the results are here; the requests are not needed any more."""
        self._save(replace(self.known, results=results))
        (self.folder / REQUESTS).unlink(missing_ok=True)

    def ids(self) -> list[str]:
        """Return the ids of the requests, in their order."""
        with (self.folder / REQUESTS).open("rb") as file:
            return [orjson.loads(line)["custom_id"] for line in file]

    def sink(self, number: int) -> "Sink":
        """Return what takes a file of results."""
        return Sink(self.folder / f"results-{number}.jsonl")

    def results(self) -> Iterator[tuple[str, Answer | None, "Place"]]:
        """Yield whose answer it is, the answer, and where it lies."""
        for number in range(self.known.results or 0):
            path, offset = self.folder / f"results-{number}.jsonl", 0
            with path.open("rb") as file:
                for line in file:
                    custom_id, answer = read_result(line)
                    yield custom_id, answer, Place(path, offset)
                    offset += len(line)

    def remove(self) -> None:
        """Forget the batch."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _save(self, state: State) -> None:
        with Sink(self.folder / _STATE) as sink:
            sink(orjson.dumps(asdict(state)))
        self.state = state


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer lies on the disk."""

    path: Path
    offset: int

    def read(self) -> Answer | None:
        """Return the answer."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return read_result(file.readline())[1]


class Sink:
    """Writes a file that is whole or not there: a context manager to call with each piece.

    Raises:
        EngineError: The disk is full or the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + _PARTIAL)
        self._file = self._try(lambda: self._partial.open("wb"))

    def __call__(self, piece: bytes) -> None:
        """Write a piece."""
        self._try(lambda: self._file.write(piece))

    def begin_again(self) -> "Sink":
        """Forget what was written, for another attempt."""
        self._try(self._truncate)
        return self

    def __enter__(self) -> "Sink":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is None:
                self._try(self._finish)

    def _truncate(self) -> None:
        self._file.seek(0)
        self._file.truncate()

    def _finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._partial.replace(self._path)
        descriptor = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _try(self, work: Callable[[], ValueT]) -> ValueT:
        try:
            return work()
        except OSError as error:
            raise EngineError(
                f"{self._path}: cannot be written ({error.strerror or error})",
                hint="free disk space or fix the folder's permissions, and repeat the command: "
                "batches that were submitted are found again",
            ) from error


def prepare(root: Path, prefix: str, lines: Iterable[bytes]) -> Kept:
    """Write requests down, in a folder whose name no other batch has.

    Raises:
        EngineError: The disk is full or the folder cannot be written.
    """
    kept = Kept(root / f"{prefix}-{uuid.uuid4().hex}")
    try:
        kept.folder.mkdir(parents=True)
    except OSError as error:
        raise EngineError(
            f"{kept.folder}: cannot be created ({error.strerror or error})"
        ) from error
    with Sink(kept.folder / REQUESTS) as sink:
        for line in lines:
            sink(line)
    return kept


def load(root: Path, prefix: str) -> list[Kept]:
    """Return the batches of one engine that may have been paid for; removes all others of it.

    Raises:
        EngineError: A state cannot be read.
    """
    found = []
    for folder in sorted(root.glob(f"{prefix}-*")):
        try:
            state = State(**orjson.loads((folder / _STATE).read_bytes()))
        except FileNotFoundError:
            Kept(folder).remove()
            continue
        except (OSError, ValueError, TypeError) as error:
            raise EngineError(
                f"{folder / _STATE}: cannot be read ({error})",
                hint="delete the folder to ask its requests again, at a second price if the batch "
                "was run",
            ) from error
        found.append(Kept(folder, state))
    return found
