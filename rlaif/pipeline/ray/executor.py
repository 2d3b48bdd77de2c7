"""The Ray executor: the same work on many machines.

Prompts are staged as Parquet, spread by Ray Data in small blocks, and worked on by actors
(`rlaif.pipeline.ray.worker`). Rows come back and are written by the process that started the run,
as ever: one writer, the same shards. Ray sees to workers that die; a block whose worker died is
worked on again, and as nothing is a row before it has come back, none is lost or there twice.

Only this file and `rlaif.pipeline.ray.cluster` import Ray.
"""

import asyncio
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.exceptions import RayError

from rlaif.config import RunConfig
from rlaif.errors import StoppedEarly
from rlaif.pipeline.ray.cluster import (
    CONSUMER,
    RayClient,
    cluster,
    let_go,
    plan_workers,
    start_coordinator,
)
from rlaif.pipeline.ray.coordinator import Done
from rlaif.pipeline.ray.shares import share_settings
from rlaif.pipeline.ray.staging import staged
from rlaif.pipeline.ray.worker import Worker, WorkerTask
from rlaif.records import Prompt
from rlaif.runs import RunWriter
from rlaif.runs.schema import prompt_from_dict
from rlaif.sessions.concurrent import DRAIN_SECONDS, Interrupted, stop_signals

_CALM_DRAIN_SECONDS = 600.0
"""How long work in flight may finish when the user is not waiting for the end."""

_LAST_SECONDS = 1.5
"""For results of workers that have stopped to arrive."""

_END_SECONDS = 2.5
"""For Ray Data to end; it takes a tenth of a second, and two at most by its own account."""


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
    async with staged(prompts, writer) as where:
        if where is None:
            return
        with cluster(settings, address):
            async with stop_signals() as stop:
                await _Spread(settings, writer, take, where, stop).run()


class _Actor:
    """What Ray Data makes of the worker: Arrow in, Arrow out."""

    def __init__(self, task: WorkerTask, link: RayClient) -> None:
        # Under one name also after a restart: it then finds the replies it wrote before.
        name = ray.get_runtime_context().get_actor_id()
        self._worker = Worker(task, link, name[:16] if name else secrets.token_hex(8))

    def __call__(self, block: pa.Table) -> dict[str, list[bytes]]:
        prompts = [prompt_from_dict(one) for one in block.column("prompt").to_pylist()]
        rows, rest = self._worker.work(prompts).encode()
        return {"rows": [rows], "rest": [rest]}


_ENOUGH: ContextVar[threading.Event] = ContextVar("_ENOUGH")
"""Set where Ray Data is started, for what it makes of `_End`."""


class _End(ExecutionCallback):
    """Ends Ray Data from inside when no more results are wanted, also while every worker hangs.

    Otherwise it would continue until the next result, and still work while Ray shuts down.
    """

    def __init__(self) -> None:
        self._enough = _ENOUGH.get()

    def on_execution_step(self, _: Any) -> None:
        if self._enough.is_set():
            raise InterruptedError("enough")


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
        self._workers, self._gpus = plan_workers(settings)
        self._task = WorkerTask(
            share_settings(settings, self._workers).model_copy(update={"reuse": ()}),
            writer.manifest.fingerprint,
        )
        self._coordinator = start_coordinator(settings, writer)
        self._loop = asyncio.get_running_loop()
        self._problem: Exception | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._enough = threading.Event()

    async def run(self) -> None:
        before = threading.enumerate()
        threading.Thread(target=self._consume, name=CONSUMER, daemon=True).start()
        ended = asyncio.create_task(self._ended.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        interrupted = asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait({ended, stopping, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            if not self._ended.is_set():
                await self._drain(ended)
        finally:
            self._enough.set()
            for task in (ended, stopping, interrupted):
                task.cancel()
            await asyncio.to_thread(let_go, before, _END_SECONDS)
        if self._problem is not None:
            raise self._problem
        if self._interrupted.is_set():
            raise Interrupted

    async def _drain(self, ended: "asyncio.Task[Any]") -> None:
        """Let workers finish what they have begun, and take what comes of it."""
        hurry = self._interrupted.is_set()
        patience = DRAIN_SECONDS / 2 if hurry else _CALM_DRAIN_SECONDS
        drained = asyncio.ensure_future(_finished(self._coordinator.stop.remote(patience)))
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
        """Take results from Ray, in a separate thread."""
        _ENOUGH.set(self._enough)
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
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._end, problem)

    def _batches(self) -> Iterator[pa.Table]:
        path, files = self._staged
        settings = self._settings.ray
        # Enough portions for one in work and one ahead of every slot, and those being written.
        ahead = 3 * self._task.settings.concurrency // settings.portion + 2
        context = ray.data.DataContext.get_current().copy()
        context.custom_execution_callback_classes += [_End]  # the context is a copy
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
                    fn_constructor_args=(self._task, RayClient(self._coordinator)),
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
                hint="everything finished is kept: repeat the command to resume",
            )
        if isinstance(problem, Exception) and not self._enough.is_set():
            self._problem = self._problem or problem
        self._ended.set()


def _why(problem: RayError) -> str:
    """What broke in a worker, else what Ray itself has to say."""
    said = str(problem).strip()
    first = re.search(r"^\w[\w.]*(?:Error|Exception): .+", said, re.MULTILINE)
    return first[0] if first else f"{type(problem).__name__}: {said.splitlines()[-1]}"


async def _finished(reference: Any) -> None:
    await reference
