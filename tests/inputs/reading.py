"""Small sources for the tests of reading."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlaif.inputs import PromptSource, read_prompts
from rlaif.records import Failure, Prompt


def read(path: str | Path | None = None, **fields: Any) -> list[Prompt | Failure]:
    return list(read_prompts(PromptSource(path=path, **fields)))


def texts(items: Iterable[Prompt | Failure]) -> list[str]:
    return [item.text for item in items if isinstance(item, Prompt)]


def failures(items: Iterable[Prompt | Failure]) -> list[tuple[str, str]]:
    return [(one.record_id, one.kind) for one in items if isinstance(one, Failure)]


def write_jsonl(path: Path, *prompts: str | Mapping[str, Any]) -> Path:
    records = [{"prompt": one} if isinstance(one, str) else one for one in prompts]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
