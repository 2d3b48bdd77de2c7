"""A worker: a thread that reads and decodes batch after batch until its queue is closed.

On a CPU several workers with few threads each beat one worker with all threads: the passes of a
batch are too short for threads to meet after every operation, above all when the machine is busy
with other things. They share one set of weights.
"""

import copy
import threading
from collections.abc import Sequence
from typing import Any

import torch

from rlaif.engines.local.calls import GeneratedSequence, ScoreRequest
from rlaif.engines.local.chat import Chat
from rlaif.engines.local.decode import Decoder
from rlaif.engines.local.forward import Forward, measure
from rlaif.engines.local.queue import Limits, Queue
from rlaif.errors import EngineError, RlaifError


class Worker:
    """One thread at work on a queue. It ends when the queue is closed.

    Args:
        queue: Where work comes from.
        decoder: Of this worker alone, as is its model.
        forward: The same model.
        chat: Its tokenizer.
        limits: Of this worker.
        threads: What torch may use inside an operation; None leaves it alone.
    """

    def __init__(
        self,
        queue: Queue,
        decoder: Decoder,
        forward: Forward,
        chat: Chat,
        limits: Limits,
        *,
        threads: int | None,
    ) -> None:
        self._queue = queue
        self._decoder = decoder
        self._forward = forward
        self._chat = chat
        self._limits = limits
        self._threads = threads
        self._started = threading.Event()
        # A daemon, so that a program that forgets to close its engine can still end.
        self._thread = threading.Thread(target=self._run, name="rlaif-transformers", daemon=True)

    def start(self) -> None:
        """Start the thread; return when it has set up torch for itself."""
        self._thread.start()
        self._started.wait()

    def join(self) -> None:
        """Wait until it has ended: at most one forward pass after the queue was closed.

        In the worker's own thread (where the garbage collector may call this) nothing is awaited.
        """
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        self._started.set()
        try:
            with torch.inference_mode():
                while self._turn():
                    pass
        except Exception as problem:  # noqa: BLE001 - no caller may be left waiting for this thread
            _fail(self._queue.close(), problem)
            _fail(self._decoder.give_up(), problem)
        _fail(self._decoder.give_up(), closed())

    def _turn(self) -> bool:
        """Do the next piece of work; return False once the queue is closed."""
        decoder = self._decoder
        work = self._queue.take(
            room=decoder.room, busy=decoder.busy, limits=self._limits, kept=self._forward.kept
        )
        if work is None:
            return False
        if work.requests:
            self._measure(work.requests)
        decoder.take(work.rows)
        if decoder.busy:
            self._step()
        return True

    def _measure(self, requests: Sequence[ScoreRequest]) -> None:
        try:
            measure(self._forward, self._chat, requests)
        except Exception as problem:  # noqa: BLE001 - the callers must receive it, not wait
            _fail(requests, problem)

    def _step(self) -> None:
        try:
            self._decoder.step()
        except torch.OutOfMemoryError:
            self._decoder.shrink()
            if self._forward.device.type == "cuda":
                torch.cuda.empty_cache()
        except Exception as problem:  # noqa: BLE001 - the callers must receive it, not wait
            _fail(self._decoder.give_up(), problem)


def twin(model: Any) -> Any:
    """Return a copy of the model that shares the weights: passes keep state in modules."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})


def closed() -> EngineError:
    """What a call fails with when the engine was closed under it."""
    return EngineError("the transformers engine was closed")


def _fail(work: Sequence[GeneratedSequence | ScoreRequest], problem: Exception) -> None:
    for pending in work:
        if isinstance(problem, RlaifError):
            pending.call.fail(problem)
            continue
        wrapped = EngineError(
            f"the model failed: {type(problem).__name__}: {str(problem).strip()[:200]}"
        )
        wrapped.__cause__ = problem
        pending.call.fail(wrapped)
