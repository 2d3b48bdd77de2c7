"""A loopback server that answers like OpenAI's: set latency, faults on request, and it counts.

Answers are functions of the request, so equal requests get equal answers. GET /stats tells what
was asked; every request is counted by a hash of its body, so that what was paid twice is known.
"""

import argparse
import asyncio
import hashlib
import json
import math
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

REST = [{"token": f"t{i}", "logprob": -3.0 - i, "bytes": None} for i in range(18)]
FAULTS = ("500", "503", "429", "reset", "garbage", "500", "503", "429", "reset", "timeout")
TIMEOUT_S = 14.0
"""How long a request that times out is held; clients must have less patience."""


class Server:
    """Counts and answers."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.latency, self.tail, self.faults = options.latency, options.tail, options.faults
        self.dice = random.Random(options.seed)
        self.keep = options.keep.open("wb", buffering=0) if options.keep else None
        self.clear()

    def clear(self) -> None:
        """Forget what was counted."""
        self.answered: Counter[bytes] = Counter()
        self.spans: list[tuple[float, float, bool]] = []
        self.faulted: Counter[str] = Counter()
        self.replies = self.unheard = self.open = 0

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer one chat completion, late and sometimes wrongly."""
        begun, data = time.monotonic(), await request.read()
        if self.keep is not None:
            self.keep.write(data + b"\n")
        body = orjson.loads(data)
        try:
            if self.dice.random() < self.faults:
                return await self.misbehave(request)
            self.open += 1
            await asyncio.sleep(self.delay())
            self.open -= 1
            self.answered[hashlib.blake2b(data, digest_size=16).digest()] += 1
            self.replies += body.get("n") or 1
            if request.transport is None or request.transport.is_closing():
                self.unheard += body.get("n") or 1
            return web.Response(body=answer(body, data), content_type="application/json")
        finally:
            self.spans.append((begun, time.monotonic(), bool(body.get("logprobs"))))

    def delay(self) -> float:
        """Seconds: fixed, or lognormal with one in a hundred at five seconds."""
        if not self.tail:
            return float(self.latency)
        if self.dice.random() < 0.01:
            return 5.0
        return self.dice.lognormvariate(math.log(self.latency) - 0.125, 0.5)

    async def misbehave(self, request: web.Request) -> web.StreamResponse:
        """Do one of the things that servers do to clients."""
        kind = self.dice.choice(FAULTS)
        self.faulted[kind] += 1
        if kind == "reset":
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if kind == "timeout":
            await asyncio.sleep(TIMEOUT_S)
            return web.Response(status=504)
        if kind == "garbage":
            return web.Response(body=b'{"choices": [{"mess', content_type="application/json")
        headers = {"Retry-After": "0.1"} if kind == "429" else {}
        return web.json_response({"error": {"message": kind}}, status=int(kind), headers=headers)

    async def stats(self, request: web.Request) -> web.Response:
        """Tell what was counted; ``?clear`` forgets it."""
        told = {
            "requests": len(self.spans),
            "answered": self.answered.total(),
            "replies": self.replies,
            "unheard": self.unheard,
            "open": self.open,
            "repeated": self.answered.total() - len(self.answered),
            "faulted": dict(self.faulted),
            "spans": self.spans if "spans" in request.query else [],
        }
        if "clear" in request.query:
            self.clear()
        return web.json_response(told, dumps=lambda value: orjson.dumps(value).decode())

    async def models(self, _request: web.Request) -> web.Response:
        """Name the one model."""
        return web.json_response({"object": "list", "data": [{"id": "mock", "object": "model"}]})


def answer(body: dict[str, Any], data: bytes) -> bytes:
    """The whole reply as bytes: a label with 20 log-probabilities, or some sixty words a sample."""
    label = bool(body.get("logprobs"))
    choices = []
    for index in range(body.get("n") or 1):
        word = hashlib.blake2b(data + bytes([index]), digest_size=8).hexdigest()
        text = f"A reply named {word}. " + "It says what such replies say. " * 8
        logprobs = None
        if label:
            text, top = "A", two_letters(int(word, 16) / 2**64)
            logprobs = {"content": [{**top[0], "top_logprobs": [*top, *REST]}]}
        message = {"role": "assistant", "content": text}
        choices.append(
            {"index": index, "message": message, "finish_reason": "stop", "logprobs": logprobs}
        )
    written = 1 if label else 60 * len(choices)
    usage = {"prompt_tokens": len(data) // 4, "completion_tokens": written}
    usage["total_tokens"] = sum(usage.values())
    kind = {"id": "chat-1", "object": "chat.completion", "created": 1, "model": "mock"}
    return orjson.dumps({**kind, "choices": choices, "usage": usage})


def two_letters(share: float) -> list[dict[str, Any]]:
    """A and B with this share for A."""
    odds = {"A": 0.05 + 0.85 * share, "B": 0.9 - 0.85 * share}
    return [{"token": one, "logprob": math.log(p), "bytes": None} for one, p in odds.items()]


async def main(options: argparse.Namespace) -> None:
    """Serve until killed; print the address once it listens."""
    server = Server(options)
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_get("/v1/models", server.models)
    app.router.add_get("/stats", server.stats)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port, backlog=2048).start()
    port = runner.addresses[0][1]
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{port}"}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds")
    parser.add_argument("--tail", action="store_true", help="lognormal, 1%% at five seconds")
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="write every request's body to this file")
    asyncio.run(main(parser.parse_args()))
