"""A crowd at a reward server: many clients, some that send a byte now and then, hostile texts.

    .venv/bin/python -m tests.security.crowd          200 clients and 60 slow ones

Prints how long ``/health`` took meanwhile.
"""

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tests.serving.serve import Server, judged, serving

PROMPT = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
TEXTS = (
    " " * 20_000 + "x",
    "." * 20_000 + "x",
    "[INST]" * 4_000,
    "</s> " * 4_000 + "x",
    "\n" * 20_000,
)
RULES = """name: r
version: 1.0.0
principles:
  - {id: s, kind: rule, statement: s, rule: {max_sentences: 3, max_repeated_ngram: 2}}
  - {id: e, kind: rule, statement: e, rule: {ends_complete: true, max_words: 50}}
"""


@dataclass(slots=True)
class Crowd:
    """What a crowd found."""

    answered: int = 0
    problems: int = 0
    health: float = 0.0
    """Longest time of ``/health``, in seconds."""


async def gather_crowd(url: str, *, clients: int, requests: int, slow: int) -> Crowd:
    """Ask from all sides until every client has its answers."""
    found = Crowd()
    limit = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=limit) as session:
        lingering = [asyncio.create_task(_linger(url, place)) for place in range(slow)]
        watching = asyncio.create_task(_watch(url, session, found))
        async with asyncio.TaskGroup() as group:
            for client in range(clients):
                group.create_task(_ask(url, session, found, client, requests))
        watching.cancel()
        for task in lingering:
            task.cancel()
        await asyncio.wait([watching, *lingering])
    return found


async def _ask(
    url: str, session: aiohttp.ClientSession, found: Crowd, client: int, requests: int
) -> None:
    for number in range(requests):
        text = TEXTS[(client + number) % len(TEXTS)] + str(client)
        body = {"query": [PROMPT + text], "prompts": [PROMPT], "labels": [""]}
        async with session.post(f"{url}/get_reward", json=body) as reply:
            await reply.read()
            if reply.status == 200:
                found.answered += 1
            else:
                found.problems += 1


async def _watch(url: str, session: aiohttp.ClientSession, found: Crowd) -> None:
    while True:
        before = time.monotonic()
        async with session.get(f"{url}/health") as reply:
            await reply.read()
        found.health = max(found.health, time.monotonic() - before)
        await asyncio.sleep(0.02)


async def _linger(url: str, place: int) -> None:
    """Send a request a byte at a time: half of the clients its head, half its body."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = "POST /score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 100000\r\n\r\n".encode() if place % 2 else head.encode())
    try:
        while not reader.at_eof():
            writer.write(b"X")
            await writer.drain()
            await asyncio.sleep(0.2)
    except ConnectionError:
        pass
    finally:
        writer.close()


def crowded_server(folder: Path, **settings: Any) -> Any:
    """A server of rules and a judge."""
    (folder / "rules.yaml").write_text(RULES)
    return serving(folder, [judged(), {"rules": "rules.yaml"}], **settings)


async def main(clients: int = 200, requests: int = 5, slow: int = 60) -> None:
    with tempfile.TemporaryDirectory() as name:
        running: Server
        with crowded_server(Path(name)) as running:
            begun = time.monotonic()
            found = await gather_crowd(running.url, clients=clients, requests=requests, slow=slow)
            seconds = time.monotonic() - begun
        print(  # noqa: T201 - what the script is for
            json.dumps(
                {
                    "clients": clients,
                    "slow": slow,
                    "answered": found.answered,
                    "problems": found.problems,
                    "longest_health_s": round(found.health, 3),
                    "seconds": round(seconds, 1),
                }
            )
        )


if __name__ == "__main__":
    asyncio.run(main())
