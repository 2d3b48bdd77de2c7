"""What the benches share: prompts, run files, the mock server as a process, measured children."""

import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WORDS = ("able", "about", "after", "answer", "ask", "back", "better", "book", "care", "city")
RLAIF = [sys.executable, "-c", "from rlaif.cli.main import main; main()"]


def write_prompts(path: Path, count: int) -> Path:
    """Write so many different prompts of some forty words."""
    draw = random.Random(0)
    with path.open("w") as file:
        for number in range(count):
            words = " ".join(draw.choices(WORDS, k=40))
            file.write(json.dumps({"prompt": f"Question {number}: {words}?"}) + "\n")
    return path


def write_run(folder: Path, engine: dict[str, Any], **changes: Any) -> Path:
    """Write a run file: two responses a prompt, one comparison, judged in both orders."""
    judge = (
        {"engine": "scripted", "model": "judge-random"}
        if engine["engine"] == "scripted"
        else engine
    )
    config = {
        "name": "bench",
        "seed": 3,
        "prompts": {"path": str(folder / "prompts.jsonl")},
        "constitution": "hhh",
        "student": {**engine, "sampling": {"n": 2, "max_tokens": 100}},
        "judges": [{"name": "main", **judge}],
        "out": str(folder / "run"),
        **changes,
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(config))
    return path


def api(url: str, transport: str, slots: int, **options: Any) -> dict[str, Any]:
    """The mock server as an engine, with exactly so many calls in flight."""
    limits = {"max_concurrency": slots, "start_concurrency": slots}
    options = {"transport": transport, "labels": "top_logprobs", **limits, **options}
    return {"engine": "openai", "model": "mock", "base_url": f"{url}/v1", "options": options}


@contextmanager
def serving(*arguments: Any) -> Iterator[str]:
    """Run the mock server in a process of its own; yield its address."""
    command = [sys.executable, str(HERE / "server.py"), *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield json.loads(child.stdout.readline())["url"]
    finally:
        child.kill()
        child.wait()


def stats(url: str, query: str = "") -> dict[str, Any]:
    """What the server counted. ``spans`` tells every request's times, ``clear`` starts anew."""
    with urllib.request.urlopen(f"{url}/stats?{query}") as reply:
        return dict(json.load(reply))


@dataclass(frozen=True)
class Used:
    """What a child process took, from start to end."""

    seconds: float
    cpu: float
    peak_mb: float
    told: dict[str, Any]
    """The JSON object on its last line."""


def measured(*command: Any) -> Used:
    """Run a child process to its end and measure it.

    Raises:
        SystemExit: It failed.
    """
    begun = time.monotonic()
    child = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = child.stdout.read()
    _, code, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(code)
    if code:
        raise SystemExit(f"{command}: exit code {child.returncode}")
    lines = [line for line in said.splitlines() if line.startswith("{")]
    told = json.loads(lines[-1]) if lines else {}
    cpu = usage.ru_utime + usage.ru_stime
    return Used(time.monotonic() - begun, cpu, usage.ru_maxrss / 1024, told)


def utilisation(spans: Sequence[Sequence[Any]], slots: int) -> float:
    """Share of the slots that were in the server's hands while prompts remained.

    The time from the first request to the last one that samples: until then there was always
    another prompt to begin.
    """
    begin = min(start for start, _, _ in spans)
    end = max(start for start, _, label in spans if not label)
    busy = sum(max(0.0, min(stop, end) - start) for start, stop, _ in spans)
    return busy / (slots * (end - begin))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a Markdown table."""
    for row in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row) + " |")
