from pathlib import Path
from typing import Any

from rlaif.constitution import Constitution, Principle

ROOT = Path(__file__).parents[2]
SHIPPED = ("concise", "harmless", "helpful", "hhh", "honest", "minimal")


def principle(id: str = "a", **changes: Any) -> Principle:
    fields = {"id": id, "statement": f"Wish number {id} in plain words.", **changes}
    return Principle.model_validate(fields)


def constitution(*principles: Principle, **changes: Any) -> Constitution:
    fields = {"name": "test", "version": "1", "principles": principles, **changes}
    return Constitution.model_validate(fields)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
