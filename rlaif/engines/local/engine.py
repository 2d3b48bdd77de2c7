"""Engine ``transformers``: a model in this process, on its CPU or GPU."""

import asyncio
import gc
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rlaif.engines.local.calls import GeneratedSequence, PendingCall, ScoreRequest
from rlaif.engines.local.decode import Decoder
from rlaif.engines.local.forward import Forward
from rlaif.engines.local.load import Loaded, TransformersOptions, load_model, read_options
from rlaif.engines.local.queue import Queue, choose_limits
from rlaif.engines.local.worker import Worker, closed, twin
from rlaif.engines.protocol import Capability, Generate, Label, Reply, Request, Score, Written
from rlaif.errors import EngineMissing

_MOST_WORKERS = 4


def build_transformers_engine(
    *, model: str, revision: str | None = None, options: Mapping[str, Any] | None = None
) -> "TransformersEngine":
    """Load a model and start its workers.

    Args:
        model: A shipped name, a folder, a GGUF file, or a hub id.
        revision: Of a hub id: branch, tag or commit.
        options: See `TransformersOptions`.

    Raises:
        EngineMissing: No such model, or none with a chat template.
        ConfigError: A wrong option.
    """
    settings = read_options(options or {})
    return TransformersEngine(load_model(model, revision=revision, options=settings), settings)


class TransformersEngine:
    """A causal language model with a chat template. Build with `build_transformers_engine`.

    Calls may come from many tasks at once, and should: they are answered in batches.
    """

    def __init__(self, loaded: Loaded, options: TransformersOptions) -> None:
        self._identity = dict(loaded.identity)
        self._chat = loaded.chat
        self._workers: list[Worker] = []
        self._decoders: list[Decoder] = []
        self._start(loaded, options)
        # A thread that is still inside torch when the interpreter is taken down aborts the process.
        self._forgotten = weakref.finalize(self, _stop, self._queue, tuple(self._workers))

    def _start(self, loaded: Loaded, options: TransformersOptions) -> None:
        model, process_threads = loaded.model, torch.get_num_threads()
        threads = options.threads or process_threads
        on_cpu = model.device.type == "cpu"
        count = options.workers or (min(threads, _MOST_WORKERS) if on_cpu else 1)
        forwards = [Forward(model if place == 0 else twin(model)) for place in range(count)]
        self._queue = Queue(
            workers=count,
            wait=options.max_wait_ms / 1000,
            vocabulary=forwards[0].vocabulary,
            shares_prefixes=forwards[0].joinable,
        )
        for forward in forwards:
            limits = choose_limits(
                model,
                workers=count,
                max_batch=options.max_batch,
                max_batch_tokens=options.max_batch_tokens,
            )
            decoder = Decoder(forward, loaded.chat, loaded.ends, limits)
            self._decoders.append(decoder)
            own_threads = max(1, threads // count) if on_cpu else None
            worker = Worker(self._queue, decoder, forward, loaded.chat, limits, threads=own_threads)
            worker.start()
            self._workers.append(worker)
        # The number is a thread's own, but new threads start with the last one set anywhere.
        torch.set_num_threads(process_threads)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Weights, dtype, chat template. Where it runs and how it is batched is not part of it."""
        return self._identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All but constrained replies; label log-probabilities are exact."""
        return frozenset(
            {
                Capability.GENERATE,
                Capability.SAMPLES,
                Capability.LABEL_LOGPROBS,
                Capability.SCORE,
                Capability.PREFILL,
            }
        )

    def written(self) -> Written:
        """Return the samples finished and tokens drawn since it was opened."""
        return sum((decoder.written for decoder in self._decoders), Written(0, 0))

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Answer, as `rlaif.engines.Engine.ask` says.

        Raises:
            CallFailed: The prompt is too long or not to the chat template's taste, a label is not
                one token, the continuation is empty, or memory ran out on this call alone.
            EngineMissing: The request needs what this engine cannot do.
            EngineError: The engine was closed, or the model failed.
        """
        call = self._submit(request)
        return await asyncio.wrap_future(call.future)

    async def aclose(self) -> None:
        """Fail what is pending, end the workers and let go of the model. Safe to call twice."""
        for left in self._queue.close():
            left.call.fail(closed())
        self._forgotten.detach()
        workers, self._workers = self._workers, []
        for worker in workers:
            await asyncio.to_thread(worker.join)
        del workers
        self._decoders.clear()
        gc.collect()  # modules are full of cycles, and this is where the memory is
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _submit(self, request: Request) -> PendingCall:
        if isinstance(request, Generate):
            call = PendingCall(len(request.seeds))
            accepted = self._queue.put(rows=self._rows(call, request))
        else:
            call = PendingCall(1)
            accepted = self._queue.put(requests=[self._score_request(call, request)])
        if not accepted:
            raise closed()
        return call

    def _rows(self, call: PendingCall, request: Generate) -> list[GeneratedSequence]:
        _check(request)
        sampling = request.sampling
        prompt = self._chat.prompt_ids(request.messages, request.stub)
        limit = sampling.max_tokens
        if self._chat.context is not None:
            limit = min(limit, self._chat.context - len(prompt))
        draws: dict[int, list[int]] = {}
        for place, seed in enumerate(request.seeds):
            draws.setdefault(seed if sampling.temperature else 0, []).append(place)
        return [
            GeneratedSequence(
                call, tuple(places), prompt, bool(request.stub), sampling, seed, limit
            )
            for seed, places in draws.items()
        ]

    def _score_request(self, call: PendingCall, request: Label | Score) -> ScoreRequest:
        chat = self._chat
        if isinstance(request, Label):
            ids = chat.prompt_ids(request.messages, request.stub)
            label_ids = chat.label_ids(request.labels)
            return ScoreRequest(call, ids, len(ids) - 1, labels=request.labels, label_ids=label_ids)
        prompt, scored = chat.score_ids(request.messages, request.continuation)
        return ScoreRequest(call, [*prompt, *scored[:-1]], len(prompt) - 1, targets=scored)


def _stop(queue: Queue, workers: Sequence[Worker]) -> None:
    """End the workers of an engine that was not closed, at the latest when the program ends."""
    queue.close()
    for worker in workers:
        worker.join()


def _check(request: Generate) -> None:
    if request.choices or request.schema:
        raise EngineMissing("the transformers engine does not support constrained replies")
    if request.sampling.extra:
        names = ", ".join(name for name, _ in request.sampling.extra)
        raise EngineMissing(
            f"the transformers engine does not support the sampling parameter {names}",
            hint="remove it from sampling.extra",
        )
