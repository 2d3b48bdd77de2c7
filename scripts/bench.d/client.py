"""One measured client: ``bare FILE URL SLOTS`` or ``rlaif RUN.yaml``. Tells one JSON object."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any


async def bare(bodies: list[dict[str, Any]], url: str, slots: int) -> dict[str, Any]:
    """The plain loop that anybody would write: the official SDK, workers, nothing kept."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    client = AsyncOpenAI(
        base_url=f"{url}/v1", api_key="EMPTY", max_retries=0, http_client=DefaultAioHttpClient()
    )
    waiting = iter(bodies)
    letters = 0

    async def worker() -> None:
        nonlocal letters
        for body in waiting:
            reply = await client.chat.completions.create(**body)
            letters += sum(len(choice.message.content or "") for choice in reply.choices)

    cpu, begun = time.process_time(), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(slots):
            group.create_task(worker())
    told = {"seconds": time.monotonic() - begun, "cpu": time.process_time() - cpu}
    await client.close()
    return told | {"pairs": 0, "calls": 0}


def run(config: Path) -> dict[str, Any]:
    """A whole run: ledger, shards, fsync, from an empty directory or from what is there."""
    import openai  # noqa: F401 - imports are not measured, for the bare loop neither

    import rlaif.pipeline

    asked = [0]
    cpu, begun = time.process_time(), time.monotonic()
    made = rlaif.pipeline.generate(
        config, on_progress=lambda seen: asked.__setitem__(0, seen.asked)
    )
    told = {"seconds": time.monotonic() - begun, "cpu": time.process_time() - cpu}
    status = made.status()
    return told | {"pairs": status.pairs, "calls": asked[0], "rows": status.rows}


if __name__ == "__main__":
    if sys.argv[1] == "bare":
        lines = Path(sys.argv[2]).read_bytes().splitlines()
        told = asyncio.run(
            bare([json.loads(line) for line in lines], sys.argv[3], int(sys.argv[4]))
        )
    else:
        told = run(Path(sys.argv[2]))
    print(json.dumps(told))
