"""``import rlaif`` is cheap: what is heavy is loaded when it is first used."""

import json
import subprocess
import sys
from typing import Any

HEAVY = ("torch", "transformers", "trl", "datasets", "ray", "vllm", "openai", "jinja2")

PROGRAM = f"""
import rlaif, json, resource, sys
usage = resource.getrusage(resource.RUSAGE_SELF)
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps({{"seconds": usage.ru_utime + usage.ru_stime, "heavy": heavy}}))
"""


def measure() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_import_loads_nothing_heavy() -> None:
    assert measure()["heavy"] == []


def test_python_with_import_takes_less_than_three_tenths_of_a_second_of_processor_time() -> None:
    assert min(measure()["seconds"] for _ in range(3)) < 0.3
