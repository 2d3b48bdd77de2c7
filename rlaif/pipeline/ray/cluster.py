"""Ray itself: connected to or started here, what it has room for, its coordinator, its end."""

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rlaif.config import RunConfig
from rlaif.errors import ConfigError
from rlaif.pipeline.ray.coordinator import Coordinator
from rlaif.pipeline.ray.shares import runs_models
from rlaif.runs import Entry, RunWriter
from rlaif.runs.layout import Layout
from rlaif.runs.ledger.ledger import has_ledger
from rlaif.sessions.budget import Spend, spend_of

CONSUMER = "rlaif-ray"
"""Name of the thread that takes results from Ray Data."""

_RAY_DATA = ("StreamingExecutor", "iter_threaded")
"""Names of the threads that Ray Data starts for it."""


@contextmanager
def cluster(settings: RunConfig, address: str | None) -> Iterator[None]:
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
            f"--address {address}: no Ray cluster found: {str(error).splitlines()[0]:.200}",
            hint="start one with `ray start --head`, or leave --address out",
        ) from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        # What Ray Data still has at work would only tell that Ray is gone.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        gc.collect()  # what holds Ray's objects in a circle must be gone, too; see `let_go`
        ray.shutdown()
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, before)


def plan_workers(settings: RunConfig) -> tuple[int, float]:
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


def start_coordinator(settings: RunConfig, writer: RunWriter) -> Any:
    """Start the actor that all workers share, on this machine, where the run directory is."""
    here = ray.get_runtime_context().get_node_id()
    coordinator = ray.remote(Coordinator).options(
        num_cpus=0,
        max_concurrency=10_000,
        scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
    )
    ledger = Layout(writer.directory).ledger
    return coordinator.remote(
        ledger=ledger if settings.reuse or has_ledger(writer.directory) else None,
        reuse=settings.reuse,
        budget=settings.budget,
        spent=spend_of(writer.ledger.totals()),
    )


@dataclass(frozen=True, slots=True)
class RayClient:
    """The way to the coordinator, from a worker."""

    coordinator: Any

    def known(self) -> npt.NDArray[np.bytes_]:
        """As `Coordinator.known`; waits."""
        found: npt.NDArray[np.bytes_] = ray.get(self.coordinator.known.remote())
        return found

    async def find(self, keys: Sequence[str]) -> list[tuple[Entry | None, bool]]:
        """As `Coordinator.find`."""
        found: list[tuple[Entry | None, bool]] = await self.coordinator.find.remote(keys)
        return found

    async def hello(self, worker: str) -> int:
        """As `Coordinator.hello`."""
        starts: int = await self.coordinator.hello.remote(worker)
        return starts

    def progressed(self, worker: str) -> None:
        """As `Coordinator.progressed`; does not wait."""
        self.coordinator.progressed.remote(worker)

    async def reserve(self, worker: str, most: Spend) -> tuple[str, str] | None:
        """As `Coordinator.reserve`."""
        refused: tuple[str, str] | None = await self.coordinator.reserve.remote(worker, most)
        return refused

    def settle(self, worker: str, most: Spend, real: Spend) -> None:
        """As `Coordinator.settle`; does not wait."""
        self.coordinator.settle.remote(worker, most, real)

    async def begin(self, worker: str) -> None:
        """As `Coordinator.begin`."""
        await self.coordinator.begin.remote(worker)

    def end(self, worker: str) -> None:
        """As `Coordinator.end`; does not wait."""
        self.coordinator.end.remote(worker)

    async def stopping(self) -> float:
        """As `Coordinator.stopping`."""
        patience: float = await self.coordinator.stopping.remote()
        return patience

    async def drained(self, worker: str) -> None:
        """As `Coordinator.drained`."""
        await self.coordinator.drained.remote(worker)


def let_go(before: Sequence[threading.Thread], seconds: float) -> None:
    """Wait, but not for ever, until no thread started since holds anything of Ray's.

    What drops a reference to one of Ray's objects while Ray shuts down ends the process at once
    and without a word.
    """
    until = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread not in before and thread.name.startswith((CONSUMER, *_RAY_DATA)):
            thread.join(max(0.0, until - time.monotonic()))
