"""The coordinator: the one place that workers of a run share, and what they send each other.

It holds what must not be divided: replies of earlier starts and of runs to reuse, the budget, and
the wish to stop. Workers write to no file of the run but their own reply shards.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from rlaif.config.run import BudgetConfig
from rlaif.errors import RlaifError, StoppedEarly
from rlaif.records import Failure, Row
from rlaif.runs import Entry, Ledger, row_from_dict
from rlaif.runs.ids import WIDTH
from rlaif.runs.schema import rows_to_batch, schema_of
from rlaif.runs.text import fix_json
from rlaif.sessions.budget import NOTHING, Budget, Spend


@dataclass(slots=True)
class Done:
    """What came of some prompts, on its way back from a worker."""

    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    left: int = 0
    """Prompts that were not carried to an end, because the run is stopping."""

    asked: dict[str, int] = field(default_factory=dict)
    """Replies asked of engines since the worker last said so, by purpose."""

    remembered: dict[str, int] = field(default_factory=dict)
    spent: Spend = NOTHING
    problem: tuple[str, str, str] | None = None
    """Why the run must stop: class of the error, message, hint."""

    def encode(self) -> tuple[bytes, bytes]:
        """Return the rows as Arrow holds them in shards, and the rest as JSON."""
        batch = rows_to_batch(self.rows, schema_of(self.rows)[1])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        rest = asdict(self) | {"rows": ()}
        return sink.getvalue().to_pybytes(), orjson.dumps(fix_json(rest))

    @classmethod
    def decode(cls, rows: bytes, rest: bytes) -> "Done":
        """Read what `encode` made."""
        fields = orjson.loads(rest)
        with pa.ipc.open_stream(rows) as stream:
            fields["rows"] = [row_from_dict(row) for row in stream.read_all().to_pylist()]
        fields["failures"] = [Failure(**one) for one in fields["failures"]]
        fields["spent"] = Spend(**fields["spent"])
        return cls(**fields)

    def error(self) -> Exception | None:
        """Return the problem as the exception it was; a program error as one with its trace."""
        if self.problem is None:
            return None
        name, message, hint = self.problem
        kind = getattr(sys.modules[RlaifError.__module__], name, None)
        if isinstance(kind, type) and issubclass(kind, RlaifError):
            return kind(message, hint=hint)
        return RuntimeError(f"a worker failed:\n{message}")


class CoordinatorClient(Protocol):
    """How a worker reaches the coordinator."""

    def known(self) -> npt.NDArray[np.bytes_]:
        """As `Coordinator.known`; waits."""
        ...

    async def find(self, keys: Sequence[str]) -> list[tuple[Entry | None, bool]]:
        """As `Coordinator.find`."""
        ...

    async def hello(self, worker: str) -> int:
        """As `Coordinator.hello`."""
        ...

    def progressed(self, worker: str) -> None:
        """As `Coordinator.progressed`; does not wait."""
        ...

    async def reserve(self, worker: str, most: Spend) -> tuple[str, str] | None:
        """As `Coordinator.reserve`."""
        ...

    def settle(self, worker: str, most: Spend, real: Spend) -> None:
        """As `Coordinator.settle`; does not wait."""
        ...

    async def begin(self, worker: str) -> None:
        """As `Coordinator.begin`."""
        ...

    def end(self, worker: str) -> None:
        """As `Coordinator.end`; does not wait."""
        ...

    async def stopping(self) -> float:
        """As `Coordinator.stopping`."""
        ...

    async def drained(self, worker: str) -> None:
        """As `Coordinator.drained`."""
        ...


class Coordinator:
    """Lives where the run directory is, in one event loop.

    Args:
        ledger: The run's ledger file; None when there is nothing to remember.
        reuse: Other run directories whose replies are known.
        budget: What the run may spend.
        spent: What earlier starts spent.
    """

    def __init__(
        self,
        *,
        ledger: Path | None,
        reuse: Sequence[Path],
        budget: BudgetConfig | None,
        spent: Spend,
    ) -> None:
        self._ledger = None
        if ledger is not None:
            self._ledger = Ledger.open(ledger, read_only=True, reuse=reuse)
        self._budget = None if budget is None else Budget(**budget.model_dump(), spent=spent)
        self._held: dict[str, list[Spend]] = {}
        self._items: dict[str, list[AsyncExitStack]] = {}
        self._lives: Counter[str] = Counter()
        self._stop: asyncio.Event = asyncio.Event()
        self._patience = 0.0
        self._starts: Counter[str] = Counter()
        self._working: set[str] = set()
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()

    async def known(self) -> npt.NDArray[np.bytes_]:
        """Return the sorted keys of all replies that can be found here."""
        joined = b"" if self._ledger is None else self._ledger.keys()
        return np.unique(np.frombuffer(joined, dtype=f"S{WIDTH}"))

    async def find(self, keys: Sequence[str]) -> list[tuple[Entry | None, bool]]:
        """Look replies up; return each with whether it is of this run."""
        if self._ledger is None:
            return [(None, False)] * len(keys)
        return [self._ledger.look_up(key) for key in keys]

    async def hello(self, worker: str) -> int:
        """Take note of a worker. What it had set aside before it died counts as spent.

        Returns:
            How often it was started since it last finished something, this time included.
        """
        for most in self._held.pop(worker, ()):
            if self._budget is not None:
                self._budget.settle(most, most)
        self._lives[worker] += 1
        for _ in range(len(self._items.get(worker, ()))):
            await self.end(worker)
        self._working.add(worker)
        self._idle.clear()
        self._starts[worker] += 1
        return self._starts[worker]

    async def progressed(self, worker: str) -> None:
        """Take note that a worker has finished something since it was started."""
        self._starts[worker] = 0

    async def reserve(self, worker: str, most: Spend) -> tuple[str, str] | None:
        """Set aside the most that a call can cost; return why not, as message and hint."""
        if self._budget is not None:
            try:
                await self._budget.reserve(most)
            except StoppedEarly as problem:
                return problem.message, problem.hint
            self._held.setdefault(worker, []).append(most)
        return None

    async def settle(self, worker: str, most: Spend, real: Spend) -> None:
        """Give back what was set aside, and count what the call really cost."""
        held = self._held.get(worker, [])
        if self._budget is not None and most in held:
            held.remove(most)
            self._budget.settle(most, real)

    async def begin(self, worker: str) -> None:
        """Wait until what is left of the budget may pay for one more prompt, of any worker."""
        if self._budget is None:
            return
        life = self._lives[worker]
        async with AsyncExitStack() as item:
            await item.enter_async_context(self._budget.item())
            if life == self._lives[worker]:  # else the worker died while it waited
                self._items.setdefault(worker, []).append(item.pop_all())

    async def end(self, worker: str) -> None:
        """Take note that a worker no longer works on one of the prompts that it began."""
        if items := self._items.get(worker):
            await items.pop().aclose()

    async def stopping(self) -> float:
        """Wait until the run is to stop; return how many seconds work in flight may take."""
        await self._stop.wait()
        return self._patience

    async def stop(self, patience: float) -> None:
        """Let every worker stop; return when all have, their replies written."""
        self._patience = patience
        self._stop.set()
        if self._budget is not None:
            self._budget.release()
        await self._idle.wait()

    async def drained(self, worker: str) -> None:
        """Take note that a worker has stopped."""
        self._working.discard(worker)
        if not self._working:
            self._idle.set()


class SharedBudget(Budget):
    """The budget at the coordinator, as a worker's engines see it."""

    def __init__(self, link: CoordinatorClient, worker: str, limits: BudgetConfig) -> None:
        super().__init__(**limits.model_dump())
        self._link = link
        self._worker = worker

    async def reserve(self, most: Spend) -> None:
        """As `Budget.reserve`, over all workers."""
        refused = self._over or await self._link.reserve(self._worker, most)
        if refused is not None:
            message, hint = refused
            raise StoppedEarly(message, hint=hint)

    def settle(self, most: Spend, real: Spend) -> None:
        """As `Budget.settle`."""
        self._link.settle(self._worker, most, real)

    @asynccontextmanager
    async def item(self) -> AsyncIterator[None]:
        """As `Budget.item`, over all workers."""
        await self._link.begin(self._worker)
        try:
            yield
        finally:
            self._link.end(self._worker)


def is_known(keys: npt.NDArray[np.bytes_], key: str) -> bool:
    """Whether a sorted array holds a key given in hex."""
    wanted = np.frombuffer(bytes.fromhex(key), dtype=f"S{WIDTH}")
    place = int(keys.searchsorted(wanted)[0])
    return place < len(keys) and bool(keys[place] == wanted[0])


def describe_problem(problem: BaseException, trace: str) -> tuple[str, str, str]:
    """Say why a run must stop, so that `Done.error` can raise it elsewhere."""
    if isinstance(problem, RlaifError):
        return type(problem).__name__, problem.message, problem.hint
    return "", trace, ""
