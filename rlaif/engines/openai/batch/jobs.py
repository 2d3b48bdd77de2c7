"""The steps of one batch at the server: upload, submit exactly once, look, fetch."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from rlaif.engines.openai.batch import wire
from rlaif.engines.openai.batch.folders import REQUESTS, Kept
from rlaif.engines.openai.endpoint import Endpoint
from rlaif.engines.traffic.outcomes import Rejected
from rlaif.errors import CallFailed, EngineError, EngineMissing, EngineUnavailable

T = TypeVar("T")

_ATTEMPTS = 10
"""Of what may be repeated, each with the endpoint's own retries."""

_DAY_S = 86400.0


class Jobs:
    """Takes batches through the server, which it asks as seldom and as safely as it can.

    Every method raises `EngineUnavailable` when the server is down or refuses, `EngineMissing` when
    it has no batches or does not take the key.

    Args:
        endpoint: The server.
        window: How long a batch may take, such as ``24h``.
        longest_pause_s: Between two attempts.
    """

    def __init__(self, endpoint: Endpoint, *, window: str, longest_pause_s: float) -> None:
        self._endpoint = endpoint
        self._window = window
        self._longest_pause_s = longest_pause_s

    async def upload(self, kept: Kept) -> str:
        """Upload the requests; return the id of the file."""
        path = kept.folder / REQUESTS
        fields = {"purpose": "batch"}
        sent = await self._retried(
            lambda: self._endpoint.upload("/files", path, fields, wire.read_file)
        )
        if isinstance(sent, Rejected):
            if sent.status in (404, 405, 501):
                raise EngineMissing(
                    f"{self._endpoint.urls[0]} does not accept file uploads (HTTP {sent.status}), "
                    "which transport: batch needs",
                    hint="set options.transport to sdk or fast",
                )
            raise await self._error_for(
                sent, "check the server's message; repeat the command to resume"
            )
        return sent

    async def submit(self, kept: Kept, *, run: str) -> str:
        """Start the batch exactly once, also when the answer to the attempt is lost.

        Args:
            kept: The batch, uploaded.
            run: What the server's list shows beside its name.
        """
        body = wire.batch_body(kept.known.file_id, kept.name, run, self._window)
        for attempt in range(_ATTEMPTS):
            try:
                sent = await self._endpoint.send("/batches", body, wire.read_batch, max_attempts=1)
            except CallFailed:
                found = await self.find(kept)  # it may have been started all the same
                if found is not None:
                    return found.id
                await asyncio.sleep(self._pause(attempt))
                continue
            if isinstance(sent, Rejected):
                raise await self._error_for(sent, "repeat the command to resume")
            return sent.id
        raise self._gave_up("does not accept batches")

    async def find(self, kept: Kept) -> wire.Batch | None:
        """Look for a batch by its name in the server's list."""
        after = ""
        while True:
            path = f"/batches?limit=100{after}"
            sent = await self._retried(self._get(path, wire.read_batches))
            if isinstance(sent, Rejected):
                hint = (
                    f"ask the provider whether a batch named {kept.name} was submitted; if not, "
                    f"delete {kept.folder}"
                )
                raise await self._error_for(sent, hint)
            page, more = sent
            for batch in page:
                if batch.name == kept.name and batch.status != "failed":
                    return batch
            if not more or not page or 0.0 < page[-1].created < kept.known.created - _DAY_S:
                return None
            after = f"&after={page[-1].id}"

    async def look(self, kept: Kept) -> wire.Batch:
        """Return the batch as it is now."""
        sent = await self._retried(self._get(f"/batches/{kept.known.batch_id}", wire.read_batch))
        if isinstance(sent, Rejected):
            hint = (
                "a batch belongs to the account that submitted it: set its key; or delete "
                f"{kept.folder} to ask its requests again, at a second price if it was run"
            )
            raise await self._error_for(sent, hint)
        return sent

    async def fetch(self, kept: Kept, batch: wire.Batch) -> None:
        """Bring the results here, on the disk."""
        for number, file_id in enumerate(batch.files):
            with kept.sink(number) as sink:
                path = f"/files/{file_id}/content"
                sent = await self._retried(partial(self._endpoint.download, path, sink.begin_again))
                if isinstance(sent, Rejected):
                    hint = (
                        f"if the results of {batch.id} are gone, delete {kept.folder} to ask its "
                        "requests again, at a second price"
                    )
                    raise await self._error_for(sent, hint)
        kept.fetched(len(batch.files))

    async def failure(self, problem: wire.Problem) -> EngineError:
        """Return the error for a batch that failed as a whole, for one of its problems."""
        rejected = Rejected(400, problem.words, problem.code.lower())
        return await self._error_for(
            rejected, "nothing of this batch was run; fix it and repeat the command to resume"
        )

    def _get(
        self, path: str, read: Callable[[dict[str, Any]], T]
    ) -> Callable[[], Coroutine[Any, Any, T | Rejected]]:
        return lambda: self._endpoint.send(path, None, read)

    async def _retried(self, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Take a step that may be repeated; a transient error must not lose a day's work."""
        for attempt in range(_ATTEMPTS):
            try:
                return await step()
            except CallFailed:
                await asyncio.sleep(self._pause(attempt))
        raise self._gave_up("does not answer about its batches")

    def _pause(self, attempt: int) -> float:
        return min(0.5 * 2.0**attempt, self._longest_pause_s)

    def _gave_up(self, what: str) -> EngineUnavailable:
        return EngineUnavailable(
            f"{self._endpoint.urls[0]} {what}: {_ATTEMPTS} attempts failed",
            hint="repeat the command later: batches that were submitted are found again",
        )

    async def _error_for(self, rejected: Rejected, hint: str) -> EngineError:
        problem = await self._endpoint.error_for(rejected)
        if isinstance(problem, CallFailed):  # of the batch, not of a call: no row is to blame
            return EngineUnavailable(problem.message, hint=hint)
        return problem
