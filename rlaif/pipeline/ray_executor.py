"""The Ray executor: the same work on many machines.

Prompts are staged as Parquet, spread by Ray Data in small blocks, and worked on by actors
(`rlaif.pipeline.worker`). Rows come back and are written by the process that started the run, as
ever: one writer, the same shards. Ray sees to workers that die; a block whose worker died is worked
on again, and as nothing is a row before it has come back, none is lost or there twice.

The only file that imports Ray.
"""

import asyncio
import logging
import os
import re
import secrets
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rlaif.config import RunConfig
from rlaif.errors import ConfigError, StoppedEarly
from rlaif.pipeline.budget import Spend, spend_of
from rlaif.pipeline.desk import Desk, Done
from rlaif.pipeline.executor import DRAIN_SECONDS, Interrupted, read_in_thread, stop_signals
from rlaif.pipeline.shares import runs_models, share_settings
from rlaif.pipeline.worker import Order, Worker
from rlaif.records import Prompt
from rlaif.runs import Entry, RunWriter
from rlaif.runs.files import make_folder
from rlaif.runs.layout import Layout
from rlaif.runs.ledger import has_ledger
from rlaif.runs.schema import ROW_SCHEMA

_STAGED = pa.schema([ROW_SCHEMA.field("prompt")])
_STAGED_ROWS = 4096
_CALM_DRAIN_SECONDS = 600.0
"""How long work in flight may finish when nobody is waiting for the end."""

_LAST_SECONDS = 1.5
"""For results of workers that have stopped to arrive."""


async def run_on_ray(
    settings: RunConfig,
    prompts: Iterator[Prompt],
    writer: RunWriter,
    take: Callable[[Done], None],
    *,
    address: str | None = None,
) -> None:
    """Work on every prompt in Ray actors and hand over what comes of them.

    Args:
        settings: Of the run.
        prompts: What is missing. Read whole, in a thread, before the work starts.
        writer: The run, open for writing.
        take: Called with results in this event loop, in no particular order.
        address: Of a running cluster; None takes ``RAY_ADDRESS``, else starts Ray here.

    Raises:
        ConfigError: More workers than the limits or the cluster allow.
        Interrupted: SIGINT or SIGTERM arrived; work in flight got a few seconds to finish.
        StoppedEarly: The budget is used up, or Ray gave up.
        EngineUnavailable: A worker found its server down.
    """
    async with _staged(prompts, writer) as staged:
        if staged is None:
            return
        with _cluster(settings, address):
            async with stop_signals() as stop:
                await _Spread(settings, writer, take, staged, stop).run()


@dataclass(frozen=True, slots=True)
class _Link:
    """The way to the desk, from a worker."""

    desk: Any

    def known(self) -> npt.NDArray[np.bytes_]:
        found: npt.NDArray[np.bytes_] = ray.get(self.desk.known.remote())
        return found

    async def find(self, keys: Sequence[str]) -> list[tuple[Entry | None, bool]]:
        found: list[tuple[Entry | None, bool]] = await self.desk.find.remote(keys)
        return found

    async def hello(self, worker: str) -> int:
        starts: int = await self.desk.hello.remote(worker)
        return starts

    def progressed(self, worker: str) -> None:
        self.desk.progressed.remote(worker)

    async def reserve(self, worker: str, most: Spend) -> tuple[str, str] | None:
        refused: tuple[str, str] | None = await self.desk.reserve.remote(worker, most)
        return refused

    def settle(self, worker: str, most: Spend, real: Spend) -> None:
        self.desk.settle.remote(worker, most, real)

    async def stopping(self) -> float:
        patience: float = await self.desk.stopping.remote()
        return patience

    async def drained(self, worker: str) -> None:
        await self.desk.drained.remote(worker)


class _Actor:
    """What Ray Data makes of the worker: Arrow in, Arrow out."""

    def __init__(self, order: Order, link: _Link) -> None:
        # Under one name also after a restart: it then finds the replies it wrote before.
        name = ray.get_runtime_context().get_actor_id()
        self._worker = Worker(order, link, name[:16] if name else secrets.token_hex(8))

    def __call__(self, block: pa.Table) -> dict[str, list[bytes]]:
        prompts = [
            Prompt(one["id"], tuple(one["messages"]), tuple(one["tags"]))
            for one in block.column("prompt").to_pylist()
        ]
        rows, rest = self._worker.work(prompts).encode()
        return {"rows": [rows], "rest": [rest]}


class _Spread:
    """One start: from staged prompts to the last result."""

    def __init__(
        self,
        settings: RunConfig,
        writer: RunWriter,
        take: Callable[[Done], None],
        staged: tuple[str, Any],
        stop: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._take = take
        self._staged = staged
        self._interrupted = stop
        self._workers, self._gpus = _plan_workers(settings)
        self._order = Order(
            share_settings(settings, self._workers).model_copy(update={"reuse": ()}),
            writer.manifest.fingerprint,
        )
        self._desk = self._open_desk()
        self._loop = asyncio.get_running_loop()
        self._problem: Exception | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._enough = threading.Event()

    def _open_desk(self) -> Any:
        settings, writer = self._settings, self._writer
        here = ray.get_runtime_context().get_node_id()
        desk = ray.remote(Desk).options(
            num_cpus=0,
            max_concurrency=10_000,
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
        )
        ledger = Layout(writer.directory).ledger
        return desk.remote(
            ledger=ledger if settings.reuse or has_ledger(writer.directory) else None,
            reuse=settings.reuse,
            budget=settings.budget,
            spent=spend_of(writer.ledger.totals()),
        )

    async def run(self) -> None:
        thread = threading.Thread(target=self._consume, name="rlaif-ray", daemon=True)
        thread.start()
        begun = time.monotonic()
        ended = asyncio.create_task(self._ended.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        interrupted = asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait({ended, stopping, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            begun = time.monotonic()
            if not self._ended.is_set():
                await self._drain(ended)
        finally:
            self._enough.set()
            for task in (ended, stopping, interrupted):
                task.cancel()
            left = begun + DRAIN_SECONDS - time.monotonic()
            await asyncio.to_thread(_let_go, thread, max(_LAST_SECONDS, left))
        if self._problem is not None:
            raise self._problem
        if self._interrupted.is_set():
            raise Interrupted

    async def _drain(self, ended: "asyncio.Task[Any]") -> None:
        """Let workers finish what they have begun, and take what comes of it."""
        hurry = self._interrupted.is_set()
        patience = DRAIN_SECONDS / 2 if hurry else _CALM_DRAIN_SECONDS
        drained = asyncio.ensure_future(_finished(self._desk.stop.remote(patience)))
        interrupted = asyncio.ensure_future(self._interrupted.wait())
        await asyncio.wait(
            {drained, ended} if hurry else {drained, ended, interrupted},
            timeout=patience + _LAST_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        await asyncio.wait({ended}, timeout=_LAST_SECONDS)
        drained.cancel()
        interrupted.cancel()

    def _consume(self) -> None:
        """Take results from Ray, in a thread of its own."""
        problem: BaseException | None = None
        try:
            for batch in self._batches():
                for rows, rest in zip(batch["rows"], batch["rest"], strict=True):
                    done = Done.decode(rows.as_py(), rest.as_py())
                    asyncio.run_coroutine_threadsafe(self._keep(done), self._loop).result()
                if self._enough.is_set():
                    return
        except Exception as error:  # noqa: BLE001 - handed over to the event loop
            problem = error
        with suppress(RuntimeError):  # nobody is left to listen
            self._loop.call_soon_threadsafe(self._end, problem)

    def _batches(self) -> Iterator[pa.Table]:
        path, files = self._staged
        settings = self._settings.ray
        # Enough portions for one in work and one ahead of every slot, and those being written.
        ahead = 3 * self._order.settings.concurrency // settings.portion + 2
        context = ray.data.DataContext.get_current().copy()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_options.preserve_order = False
        # A slow model may take longer over a portion than Ray Data is willing to wait.
        context.execution_no_progress_timeout_s = -1
        with ray.data.DataContext.current(context):
            results = (
                ray.data.read_parquet(path, filesystem=files)
                .repartition(target_num_rows_per_block=settings.portion)
                .map_batches(
                    _Actor,
                    fn_constructor_args=(self._order, _Link(self._desk)),
                    batch_size=None,
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(
                        size=self._workers,
                        max_tasks_in_flight_per_actor=ahead,
                        max_concurrent_calls_per_actor=ahead,
                        enable_true_multi_threading=True,
                    ),
                    num_cpus=settings.cpus,
                    num_gpus=self._gpus,
                )
            )
            yield from results.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            )

    async def _keep(self, done: Done) -> None:
        if self._enough.is_set():
            return
        try:
            self._take(done)
            self._problem = self._problem or done.error()
        except Exception as problem:  # noqa: BLE001 - raised by `run`
            self._problem = problem
        if self._problem is not None:
            self._stopping.set()

    def _end(self, problem: BaseException | None) -> None:
        if isinstance(problem, RayError):
            problem = StoppedEarly(
                f"Ray gave the work up: {_why(problem):.300}",
                hint="everything finished is kept: repeat the command to go on",
            )
        if isinstance(problem, Exception) and not self._enough.is_set():
            self._problem = self._problem or problem
        self._ended.set()


def _let_go(consumer: threading.Thread, seconds: float) -> None:
    """Wait until nothing here calls Ray any more: a call while Ray shuts down may end the process.

    The consumer sees the end with the next result, and with it Ray Data's own thread ends.
    """
    until = time.monotonic() + seconds
    consumer.join(seconds)
    for thread in threading.enumerate():
        if thread.name.startswith("StreamingExecutor"):
            thread.join(max(0.0, until - time.monotonic()))


def _why(problem: RayError) -> str:
    """What broke in a worker, else what Ray itself has to say."""
    said = str(problem).strip()
    first = re.search(r"^\w[\w.]*(?:Error|Exception): .+", said, re.MULTILINE)
    return first[0] if first else f"{type(problem).__name__}: {said.splitlines()[-1]}"


async def _finished(reference: Any) -> None:
    await reference


@asynccontextmanager
async def _staged(
    prompts: Iterator[Prompt], writer: RunWriter
) -> AsyncIterator[tuple[str, Any] | None]:
    """Write prompts where workers can read them; None when there are none."""
    folder = Layout(writer.directory).staged
    name = f"{secrets.token_hex(4)}.parquet"
    make_folder(folder)
    count, left = 0, threading.Event()

    def stage() -> int:
        count = 0
        with pq.ParquetWriter(folder / name, _STAGED, compression="zstd") as file:
            while portion := _some(prompts):
                file.write_batch(pa.RecordBatch.from_pylist(portion, schema=_STAGED))
                count += len(portion)
        if count and writer.store is not None and not left.is_set():
            writer.store.upload(folder / name)
        return count

    try:
        count = await read_in_thread(stage)
        if not count:
            yield None
        elif writer.store is None:
            yield str(folder / name), None
        else:
            yield writer.store.staged(name)
    finally:
        left.set()
        (folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()
        if count and writer.store is not None:
            writer.store.remove_staged()


def _some(prompts: Iterator[Prompt]) -> list[dict[str, Any]]:
    some: list[dict[str, Any]] = []
    for prompt in prompts:
        fields = {"id": prompt.id, "messages": prompt.messages, "tags": prompt.tags}
        some.append({"prompt": fields})
        if len(some) == _STAGED_ROWS:
            break
    return some


def _plan_workers(settings: RunConfig) -> tuple[int, float]:
    """Return how many workers there are, and how many GPUs each one has."""
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
    wanted = settings.ray
    each = (1.0 if runs_models(settings) and gpus else 0.0) if wanted.gpus is None else wanted.gpus
    count = wanted.workers
    if count is None:
        by_room = gpus / each if each else cpus / 2
        count = max(1, min(int(by_room), settings.concurrency))
    if count * each > gpus:
        raise ConfigError(
            f"ray: {count} workers of {each:g} GPUs need more than the {gpus:g} GPUs of the cluster"
        )
    # One core must be left for reading the prompts, else everything waits for everything.
    if count * wanted.cpus > cpus - 1:
        raise ConfigError(
            f"ray: {count} workers of {wanted.cpus:g} cores need more than the {cpus:g} cores of "
            "the cluster, of which one reads prompts",
            hint="lower ray.workers or ray.cpus; a worker that waits for a server needs little: "
            "ray.cpus: 0.25",
        )
    return count, each


@contextmanager
def _cluster(settings: RunConfig, address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start Ray here; one that is connected already is left as it is."""
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise ConfigError(
            f"--address {address}: the command itself must run in the cluster",
            hint="run it on one of its machines with --address auto, or with `ray job submit`",
        )
    before = signal.getsignal(signal.SIGTERM)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Else every run prints a warning about how Ray Data itself hands over its actors' arguments.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    local: dict[str, Any] = {}
    if address == "local":
        needed = int((settings.ray.workers or 1) * settings.ray.cpus) + 2
        local = {"num_cpus": max(os.cpu_count() or 1, needed), "include_dashboard": False}
        local["object_store_memory"] = 256 << 20
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except ConnectionError as error:
        raise ConfigError(
            f"--address {address}: there is no Ray cluster: {str(error).splitlines()[0]:.200}",
            hint="start one with `ray start --head`, or leave --address out",
        ) from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        # What Ray Data still has at work would only tell that Ray is gone.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        ray.shutdown()
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, before)
