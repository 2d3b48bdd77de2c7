"""A real server on 127.0.0.1 with OpenAI's files and batches, which can end in every way.

A batch is run and paid for the moment it is created, whether or not anybody looks at it again; how
it ended shows after some looks. Results come unordered.
"""

import contextlib
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from aiohttp import web

from tests.engines.faults import Fault, FaultServer

Ending = Literal["completed", "expired", "cancelled", "failed", "no-room", "bad-line"]


@dataclass
class Made:
    """A batch at the server."""

    id: str
    metadata: dict[str, str]
    ids: list[str]
    ending: Ending
    created: int
    output: str | None = None
    errors: str | None = None
    problems: list[dict[str, Any]] = field(default_factory=list)
    looks: int = 0


class BatchServer(FaultServer):
    """The server. ``fault_of`` works on requests inside batches too."""

    def __init__(self) -> None:
        super().__init__("openai")
        self.files: dict[str, bytes] = {}
        self.batches: list[Made] = []
        self.paid: Counter[str] = Counter()
        """How often each request was run, by custom_id."""

        self.endings: deque[Ending] = deque()
        """How the next batches end; completed when empty."""

        self.left_share = 0.5
        """Of the requests of a batch that expires or is cancelled: not run."""

        self.looks_needed = 2
        self.lost_replies = 0
        """So many creations of batches are done, and the connection is cut before the reply."""

        self.has_files = self.has_list = True
        self.on_create: Callable[[Made], None] = lambda _: None
        self.on_look: Callable[[Made], None] = lambda _: None
        self.on_content: Callable[[], None] = lambda: None
        self.list_page = 2

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._look)
        app.router.add_post("/v1/batches", self._create)
        if self.has_files:
            app.router.add_post("/v1/files", self._upload)
            app.router.add_get("/v1/files/{id}/content", self._content)

    async def _upload(self, request: web.Request) -> web.Response:
        fields: dict[str, bytes] = {}
        async for part in await request.multipart():
            fields[str(part.name)] = await part.read()  # type: ignore[union-attr]
        self.counts["/v1/files"] += 1
        if fields.get("purpose") != b"batch":
            return _json({"error": {"message": "purpose must be batch"}}, 400)
        return _json({"id": self._keep(fields["file"]), "object": "file", "purpose": "batch"})

    async def _content(self, request: web.Request) -> web.Response:
        self.counts["content"] += 1
        self.on_content()
        return web.Response(body=self.files[request.match_info["id"]])

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.counts["/v1/batches"] += 1
        refused = self._guard(request, {"model": self.models[0]})
        if refused:
            return refused
        assert body["endpoint"] == "/v1/chat/completions"
        assert body["completion_window"] == "24h"
        lines = [orjson.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        made = Made(
            f"batch_{len(self.batches)}",
            body["metadata"],
            [line["custom_id"] for line in lines],
            self.endings.popleft() if self.endings else "completed",
            int(time.time()),
        )
        assert len(set(made.ids)) == len(made.ids)
        assert {line["body"]["model"] for line in lines} == {self.models[0]}
        self.batches.append(made)
        self._run(made, lines)
        self.on_create(made)
        if self.lost_replies:
            self.lost_replies -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return _json(self._shown(made))

    def _run(self, made: Made, lines: list[dict[str, Any]]) -> None:
        if made.ending == "failed":
            words = "The account has reached its limit."
            made.problems = [{"code": "account_limit", "message": words, "line": None}]
        elif made.ending == "no-room":
            words = "Enqueued token limit reached."
            made.problems = [{"code": "token_limit_exceeded", "message": words, "line": None}]
        elif made.ending == "bad-line":
            words = "The request is no request."
            made.problems = [{"code": "invalid_request", "message": words, "line": 1}]
        if made.problems:
            return
        draw = random.Random(len(self.batches))
        draw.shuffle(lines)
        left = int(len(lines) * self.left_share) if made.ending != "completed" else 0
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for line in lines[left:]:
            self.paid[line["custom_id"]] += 1
            fault = self.fault_of(line["body"])
            answer = self._answer(line["body"], fault)
            (bad if fault else good).append({"custom_id": line["custom_id"], **answer})
        code = "batch_expired" if made.ending == "expired" else "batch_cancelled"
        bad += [
            {"custom_id": one["custom_id"], "response": None, "error": {"code": code}}
            for one in lines[:left]
            if made.ending == "expired"
        ]
        made.output = self._keep(b"".join(orjson.dumps(one) + b"\n" for one in good))
        made.errors = (
            self._keep(b"".join(orjson.dumps(one) + b"\n" for one in bad)) if bad else None
        )

    def _answer(self, body: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        if fault is None:
            response = {"status_code": 200, "request_id": "r", "body": self.fake.answer(body)}
            return {"response": response, "error": None}
        if fault.kind == "payload":
            return {"response": {"status_code": 200, "body": fault.payload}, "error": None}
        return {"response": {"status_code": fault.status, "body": fault.payload}, "error": None}

    async def _look(self, request: web.Request) -> web.Response:
        self.counts["look"] += 1
        for made in self.batches:
            if made.id == request.match_info["id"]:
                self.on_look(made)
                made.looks += 1
                return _json(self._shown(made))
        return _json({"error": {"message": "No such batch"}}, 404)

    async def _list(self, request: web.Request) -> web.Response:
        self.counts["list"] += 1
        if not self.has_list:
            return _json({"error": {"message": "not here"}}, 404)
        newest = list(reversed(self.batches))
        after = request.query.get("after")
        start = 1 + [made.id for made in newest].index(after) if after else 0
        page = newest[start : start + self.list_page]
        more = start + self.list_page < len(newest)
        data = [self._shown(made) for made in page]
        return _json({"object": "list", "data": data, "has_more": more})

    def _shown(self, made: Made) -> dict[str, Any]:
        ended = made.looks >= self.looks_needed
        failed = made.ending in ("failed", "no-room", "bad-line")
        status = "failed" if failed else made.ending
        count = len(made.ids)
        return {
            "id": made.id,
            "object": "batch",
            "status": status if ended else ("validating", "in_progress")[made.looks > 0],
            "metadata": made.metadata,
            "created_at": made.created,
            "output_file_id": made.output if ended else None,
            "error_file_id": made.errors if ended else None,
            "errors": {"object": "list", "data": made.problems} if ended and failed else None,
            "request_counts": {"total": count, "completed": count if ended else 0, "failed": 0},
        }

    def _keep(self, data: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = data
        return name


@contextlib.asynccontextmanager
async def serving_batches(*, has_files: bool = True) -> AsyncIterator[BatchServer]:
    """Run a server for the length of a block."""
    server = BatchServer()
    server.has_files = has_files
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
