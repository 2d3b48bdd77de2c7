"""A real `rlaif serve-reward` in a child process, and OpenRLHF's own way of asking it."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e.project import COMMAND

SCRIPTED = {"engine": "scripted", "model": "judge-random", "method": "pointwise"}


def judged(**changes: Any) -> dict[str, Any]:
    return {
        "judged": {
            "judges": [{"name": "main", **SCRIPTED}],
            "constitution": "hhh",
            "out": "ledger",
            **changes,
        }
    }


def failing(rate: float = 1.0, **changes: Any) -> dict[str, Any]:
    judge = {"name": "main", **SCRIPTED, "options": {"failure_rate": rate}}
    return judged(judges=[judge], out="failing", **changes)


class Server:
    """The process and its address."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        self.process, self.url = process, url

    def stop(self) -> tuple[int, str]:
        """End it with SIGTERM; return its exit code and what it said."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said.decode()


@contextmanager
def serving(folder: Path, reward: Any, **settings: Any) -> Iterator[Server]:
    path = folder / "serve.yaml"
    path.write_text(json.dumps({"reward": reward, **settings}))
    command = [*COMMAND, "serve-reward", str(path), "--port", "0", "--json"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate()[1].decode())
        yield Server(process, json.loads(line)["url"])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def ask_as_openrlhf(
    server: str, query: str, prompt: str, label: Any, *, tries: int = 5, pause: float = 0.0
) -> tuple[Any, list[str]]:
    """What OpenRLHF 0.11's SingleTurnAgentExecutor does with one rollout.

    Returns:
        The reply or None, as it leaves the reward; and what it logs.
    """
    logged: list[str] = []
    timeout = aiohttp.ClientTimeout(total=180)
    payload = {"query": [query], "prompts": [prompt], "labels": [label]}
    for _ in range(tries):
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(f"{server}/get_reward", json=payload) as response,
            ):
                response.raise_for_status()
                return await response.json(), logged
        except aiohttp.ClientError as problem:
            logged.append(f"Request error, please check: {problem}")
        await asyncio.sleep(pause)
    return None, logged


async def send(url: str, body: Any = None, **options: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session:
        sent = {"json": body} if body is not None else options
        async with session.post(url, **sent) as response:
            return response.status, await response.json()


async def get(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.json()
