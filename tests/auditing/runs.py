"""Finished runs over scripted engines, and constitutions written for one test."""

from pathlib import Path
from typing import Any

import orjson

from rlaif.constitution import Constitution, load_constitution
from rlaif.pipeline import generate
from rlaif.runs import Run


def write_prompts(path: Path, count: int) -> Path:
    lines = [{"id": f"p{number}", "prompt": f"What about {number}?"} for number in range(count)]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return path


def write_constitution(path: Path, constitution: Constitution) -> Path:
    """JSON is YAML."""
    data = constitution.model_dump(mode="json", exclude_defaults=True)
    path.write_bytes(orjson.dumps(data))
    return path


def reworded(name: str, principle: str) -> Constitution:
    """A shipped constitution of which one principle asks the opposite question."""
    old = load_constitution(name)
    changed = tuple(
        one.model_copy(update={"comparison": f"Reworded: {one.comparison}"})
        if one.id == principle
        else one
        for one in old.principles
    )
    return old.model_copy(update={"principles": changed})


def make_run(tmp_path: Path, *, prompts: int = 20, name: str = "run", **more: Any) -> Run:
    """A run of two responses to each prompt, judged at random by content under ``hhh``."""
    settings: dict[str, Any] = {
        "name": name,
        "seed": 3,
        "prompts": {
            "path": str(write_prompts(tmp_path / f"{name}.jsonl", prompts)),
            "id_column": "id",
        },
        "constitution": "hhh",
        "student": {"engine": "scripted", "model": "echo", "sampling": {"n": 2}},
        "judges": [{"name": "main", "engine": "scripted", "model": "judge-random"}],
        "judging": {"principles": {"choose": "one"}},
        "out": str(tmp_path / name),
        **more,
    }
    return generate(settings)
