"""A real server on 127.0.0.1 that answers like OpenAI's or vLLM's, and misbehaves on request.

Every reply is a function of the request, so equal requests get equal replies and tests can compute
what must come back. Benches start it in a process of its own: ``python -m tests.engines.faults``.
"""

import argparse
import asyncio
import contextlib
import gzip
import math
import random
import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from aiohttp import web

from tests.engines.fake_model import FakeModel, Flavour

Kind = Literal["status", "reset", "slow", "malformed", "truncated", "payload", "refusal"]


@dataclass(frozen=True)
class Fault:
    """One misbehaviour. Use the functions below."""

    kind: Kind
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    payload: Any = None
    seconds: float = 0.0


def error(status: int, message: str = "broken", code: str | None = None, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    payload = {"error": {"message": message, "type": "error", "code": code}}
    return Fault("status", status, named, payload)


def too_many(retry_after: str | None = None) -> Fault:
    return error(429, "slow down", **({"retry_after": retry_after} if retry_after else {}))


def reset() -> Fault:
    return Fault("reset")


def slow(seconds: float) -> Fault:
    return Fault("slow", seconds=seconds)


def malformed() -> Fault:
    return Fault("malformed")


def truncated() -> Fault:
    return Fault("truncated")


def payload(value: Any) -> Fault:
    """Answer 200 with this JSON."""
    return Fault("payload", payload=value)


def refusal() -> Fault:
    """Answer 200 with finish_reason content_filter."""
    return Fault("refusal")


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    at: float
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class FaultServer:
    """The server. Set its attributes at any time; they count from the next request on.

    Args:
        flavour: ``vllm`` knows /tokenize, logprob_token_ids and prompt_logprobs; ``openai`` rejects
            them; ``plain`` ignores what it does not know.
    """

    def __init__(self, flavour: Flavour = "vllm") -> None:
        self.flavour = flavour
        self.models = ["test-model"]
        self.owner = "someone"
        self.instead_of_models: tuple[int, bytes] | None = None
        """Status and body that /models answers with in place of the list."""

        self.queries: list[str] = []
        self.flood = ""
        """``endless``, ``bomb`` or ``long``: more than anyone should read; ``packed``: gzip."""

        self.key: str | None = None
        """When set, other keys get a 401."""

        self.script: deque[Fault | None] = deque()
        """Faults for the next chat completions, in order; None is a good answer."""

        self.fault_of: Callable[[dict[str, Any]], Fault | None] = lambda _body: None
        """Asked when the script is empty."""

        self.latency: Callable[[], float] = lambda: 0.0
        self.fake = FakeModel(flavour)
        self.refuses_n = False
        self.seen: list[Seen] = []
        self.keep_seen = True
        self.counts: Counter[str] = Counter()
        self.in_flight = self.max_in_flight = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_get("/v1/models", self._models)
        if self.flavour == "vllm":
            app.router.add_post("/tokenize", self._tokenize)
        self.add_routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def add_routes(self, app: web.Application) -> None:
        """Nothing more here."""

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner:
            await runner.cleanup()

    def chats(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == "/v1/chat/completions"]

    # --- handlers

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            body = self._note(request, await request.read())
            latency = self.latency()
            if latency:
                await asyncio.sleep(latency)
            if request.query_string:
                self.queries.append(request.query_string)
            if self.flood:
                return await self._flood(request, body)
            fault = self.script.popleft() if self.script else self.fault_of(body)
            if fault:
                response = await self._misbehave(request, fault, body)
                if response is not None:
                    return response
            return self._guard(request, body) or _json(self.fake.answer(body))
        finally:
            self.in_flight -= 1

    async def _misbehave(
        self, request: web.Request, fault: Fault, body: dict[str, Any]
    ) -> web.StreamResponse | None:
        match fault.kind:
            case "slow":
                await asyncio.sleep(fault.seconds)
                return None
            case "status":
                return _json(fault.payload, fault.status, fault.headers)
            case "malformed":
                return web.Response(body=orjson.dumps(self.fake.answer(body))[:-20])
            case "payload":
                return _json(fault.payload)
            case "refusal":
                answer = self.fake.answer(body)
                for choice in answer["choices"]:
                    choice["finish_reason"] = "content_filter"
                    choice["message"]["content"] = None
                    choice["logprobs"] = None
                return _json(answer)
            case "reset" | "truncated":
                return await self._break_off(request, fault, body)

    async def _break_off(
        self, request: web.Request, fault: Fault, body: dict[str, Any]
    ) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        if fault.kind == "reset":
            # Linger 0 makes close send RST instead of FIN.
            linger = struct.pack("ii", 1, 0)
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
            return web.Response()
        data = orjson.dumps(self.fake.answer(body))
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        transport.close()
        return response

    async def _flood(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        packed = {"Content-Encoding": "gzip"}
        if self.flood == "packed":
            return web.Response(
                body=gzip.compress(orjson.dumps(self.fake.answer(body))), headers=packed
            )
        if self.flood == "bomb":
            return web.Response(body=gzip.compress(b" " * 2**24), headers=packed)
        if self.flood == "long":
            return web.Response(body=b" " * 2**22)
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * 2**16)
        return response

    async def _completions(self, request: web.Request) -> web.Response:
        body = self._note(request, await request.read())
        refused = self._guard(request, body)
        if refused:
            return refused
        prompt: list[int] = body["prompt"]
        logprobs = [
            {str(token): {"logprob": self.fake.logprob_of(token), "rank": 3, "decoded_token": "x"}}
            for token in prompt
        ]
        choice = {"index": 0, "text": "", "prompt_logprobs": [None, *logprobs[1:]]}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 1}
        return _json({"choices": [choice], "usage": usage})

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = self._note(request, await request.read())
        if "messages" in body:
            text = "".join(f"<{one['role']}>{one['content']}" for one in body["messages"])
            text += "<assistant>" if body.get("add_generation_prompt") else ""
        else:
            text = body["prompt"]
        tokens = self.fake.tokenizer.encode(text)
        return _json({"count": len(tokens), "max_model_len": 4096, "tokens": tokens})

    async def _models(self, request: web.Request) -> web.Response:
        self._note(request, b"{}")
        if self.instead_of_models is not None:
            status, text = self.instead_of_models
            return web.Response(status=status, body=text)
        owner = "vllm" if self.flavour == "vllm" else self.owner
        data = [{"id": name, "object": "model", "owned_by": owner} for name in self.models]
        return _json({"object": "list", "data": data})

    def _note(self, request: web.Request, data: bytes) -> dict[str, Any]:
        body: dict[str, Any] = orjson.loads(data)
        self.counts[request.path] += 1
        if self.keep_seen:
            self.seen.append(Seen(time.monotonic(), request.path, request.headers.copy(), body))
        return body

    def _guard(self, request: web.Request, body: dict[str, Any]) -> web.Response | None:
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            given = request.headers.get("Authorization", "")
            return _json({"error": {"message": f"Incorrect API key: {given}"}}, 401)
        if body.get("model") not in self.models:
            words = f"The model `{body.get('model')}` does not exist."
            return _json({"error": {"message": words, "code": "model_not_found"}}, 404)
        if self.flavour == "openai" and "logprob_token_ids" in body:
            return _json({"error": {"message": "unknown parameter: logprob_token_ids"}}, 400)
        if self.refuses_n and body.get("n", 1) > 1:
            return _json({"error": {"message": "'n' must be at most 1"}}, 400)
        return None


@contextlib.asynccontextmanager
async def serving(flavour: Flavour = "vllm", *faults: Fault | None) -> AsyncIterator[FaultServer]:
    """Run a server for the length of a block, with these faults for the first requests."""
    server = FaultServer(flavour)
    server.script.extend(faults)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def random_faults(rate: float, seed: int = 0) -> Callable[[dict[str, Any]], Fault | None]:
    """Return a `FaultServer.fault_of` that misbehaves in this share of requests, in all ways."""
    draw = random.Random(seed)
    ways = [error(500), error(503), too_many("0.05"), reset(), malformed(), truncated()]
    return lambda _body: draw.choice(ways) if draw.random() < rate else None


def lognormal(mean: float, slow_share: float, slow_seconds: float) -> Callable[[], float]:
    """Return a latency: lognormal around ``mean`` with a share of very slow replies."""
    draw = random.Random(0)
    sigma = 0.5
    mu = math.log(mean) - sigma**2 / 2
    return lambda: slow_seconds if draw.random() < slow_share else draw.lognormvariate(mu, sigma)


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=value if isinstance(value, bytes) else orjson.dumps(value),
        status=status,
        headers=headers,
        content_type="application/json",
    )


async def _main(options: argparse.Namespace) -> None:
    server = FaultServer(options.flavour)
    server.keep_seen = False
    server.port = options.port
    if options.heavy_tail:
        server.latency = lognormal(options.latency, 0.01, 5.0)
    elif options.latency:
        server.latency = lambda: float(options.latency)
    server.fault_of = random_faults(options.faults)
    await server.start()
    sys.stdout.write(server.base_url + "\n")
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve until interrupted; prints the base_url.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--flavour", choices=["vllm", "openai", "plain"], default="vllm")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--heavy-tail", action="store_true")
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args()))
