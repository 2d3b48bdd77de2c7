"""vLLM's asynchronous engine on its own event loop, in its own thread."""

import asyncio
import logging
import threading
import uuid
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from rlaif.errors import CallFailed, EngineError, EngineUnavailable


class VllmHost:
    """Takes prompts as tokens and gives vLLM's outputs.

    It belongs to no event loop of a caller's: it can be opened before there is one, and be asked
    from one after another. What vLLM does per token in this process is off the caller's loop, too.

    Args:
        arguments: vLLM's AsyncEngineArgs.

    Raises:
        EngineError: vLLM cannot run the model; its own words are on stderr.
    """

    def __init__(self, arguments: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        # The only reference, so that what ends the engine also lets go of it: vLLM's destructor
        # fails once the interpreter is being taken down.
        self._held: list[Any] = []
        try:
            opening = asyncio.run_coroutine_threadsafe(_open(arguments), self._loop)
            self._held.append(opening.result())
            del opening
        except Exception as problem:
            _end(self._held, self._loop, self._thread)
            first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
            raise EngineError(f"vLLM cannot run this model: {first}") from problem
        self._end = weakref.finalize(self, _end, self._held, self._loop, self._thread)

    @property
    def config(self) -> Any:
        """What vLLM says it runs, and how (its VllmConfig)."""
        return self._held[0].vllm_config

    async def run(self, ids: Sequence[int], params: Mapping[str, Any]) -> Any:
        """Return vLLM's output for one prompt.

        Args:
            ids: The prompt.
            params: Of vLLM's SamplingParams.

        Raises:
            CallFailed: vLLM refused this request or aborted it.
            EngineUnavailable: Its engine has died.
            EngineError: It was closed.
        """
        if not self._end.alive:
            raise _closed()
        work = asyncio.run_coroutine_threadsafe(_run(self._held[0], ids, params), self._loop)
        try:
            return await asyncio.wrap_future(work)
        except (asyncio.CancelledError, EngineUnavailable):
            if self._end.alive:
                raise
            raise _closed() from None

    def close(self) -> None:
        """End everything, once."""
        self._end()


async def _open(arguments: Any) -> Any:
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(arguments)


async def _run(engine: Any, ids: Sequence[int], params: Mapping[str, Any]) -> Any:
    from vllm import SamplingParams, TokensPrompt
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    output = None
    try:
        sampling = SamplingParams(**params, output_kind=RequestOutputKind.FINAL_ONLY)
        prompt = TokensPrompt(prompt_token_ids=list(ids))
        async for latest in engine.generate(prompt, sampling, request_id=uuid.uuid4().hex):
            output = latest
    except EngineDeadError as problem:
        raise EngineUnavailable(f"vLLM's engine has died: {problem}") from None
    except (ValueError, TypeError, VLLMValidationError) as problem:
        raise CallFailed(f"vLLM refuses the request: {problem}", kind="invalid-request") from None
    except EngineGenerateError as problem:
        raise CallFailed(f"vLLM failed: {problem.__cause__ or problem}", kind="engine") from None
    if output is None or output.outputs[0].finish_reason in (None, "abort", "error"):
        raise CallFailed("vLLM aborted the request", kind="engine")
    return output


def _end(held: list[Any], loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """End an engine, also one that was not closed, at the latest when the program ends."""

    async def cancel() -> None:
        while held:
            held.pop().shutdown()
        own = asyncio.current_task()
        for task in asyncio.all_tasks():
            if task is not own:
                task.cancel()

    try:
        asyncio.run_coroutine_threadsafe(cancel(), loop).result(timeout=60)
    except Exception:
        logging.getLogger(__name__).exception("vLLM did not end well")
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=10)
    if not thread.is_alive():
        loop.close()


def _closed() -> EngineError:
    return EngineError("the vllm engine was closed")
