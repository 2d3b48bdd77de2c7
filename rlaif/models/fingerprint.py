"""What tells two model folders apart: a hash of everything that can change an answer.

Whole files are hashed, so a checkpoint that was trained further in the same folder is another
model, however few of its weights moved. Digests are remembered in the cache folder by size and
modification time; asking again costs nothing.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from rlaif.errors import InputError
from rlaif.records import content_id


def cache_folder() -> Path:
    """Return the folder for what can be made again: converted models, digests. It may not exist."""
    given = os.environ.get("RLAIF_CACHE")
    if given:
        return Path(given).expanduser().resolve()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "rlaif"


_WEIGHTS = ".safetensors"
_ENDS = (_WEIGHTS, ".safetensors.index.json")
_NAMES = ("config.json", "generation_config.json", "adapter_config.json", "added_tokens.json")
_STARTS = ("tokenizer", "chat_template", "special_tokens", "vocab", "merges")

_CLOCK_TICK = 2_000_000_000  # ns; within it a file may change without its time changing


def model_fingerprint(path: Path | str) -> str:
    """Return 32 hex digits naming the model in a folder: weights, config, tokenizer, template.

    An adapter's fingerprint covers the model it belongs to, where that is a folder as well.

    Raises:
        InputError: Not a folder, or one without model weights.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder")
    files = [file for file in sorted(folder.resolve().iterdir()) if _counts(file.name)]
    if not any(file.name.endswith(_WEIGHTS) for file in files):
        raise InputError(
            f"{folder}: there are no model weights (*{_WEIGHTS}) in this folder",
            hint="pickled ones (.bin) are not read: where you trust them, load them with "
            "transformers and save_pretrained()",
        )
    digests = _remembered(folder.resolve(), files)
    base = _base_of_adapter(folder)
    if base is not None:
        digests["base model"] = model_fingerprint(base)
    return content_id("model", digests)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, remembered as above."""
    path = path.resolve()
    return _remembered(path.parent, [path])[path.name]


def _counts(name: str) -> bool:
    return name.endswith(_ENDS) or name in _NAMES or name.startswith(_STARTS)


def _base_of_adapter(folder: Path) -> Path | None:
    try:
        named = orjson.loads((folder / "adapter_config.json").read_bytes())
    except (OSError, ValueError):
        return None
    base = named.get("base_model_name_or_path")
    return Path(base) if base and Path(base).is_dir() else None


def _remembered(folder: Path, files: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of files of one folder, read again only where size or time have changed."""
    record = cache_folder() / "digests" / f"{content_id('folder', str(folder))}.json"
    try:
        known = orjson.loads(record.read_bytes())
    except (OSError, ValueError):
        known = {}
    entries = {file.name: _entry(file, known.get(file.name)) for file in files}
    # A file of this very moment could be written again without its time changing.
    settled = {name: e for name, e in entries.items() if time.time_ns() - e[1] > _CLOCK_TICK}
    if any(known.get(name) != [*entry] for name, entry in settled.items()):
        with contextlib.suppress(OSError):  # a cache that cannot be written costs only time
            record.parent.mkdir(parents=True, exist_ok=True)
            fresh = record.with_name(f"{record.name}.{os.getpid()}")
            fresh.write_bytes(orjson.dumps({**known, **settled}))
            fresh.replace(record)
    return {name: digest for name, (_, _, digest) in entries.items()}


def _entry(file: Path, known: Any) -> tuple[int, int, str]:
    stat = file.stat()
    if isinstance(known, list) and known[:2] == [stat.st_size, stat.st_mtime_ns]:
        return (stat.st_size, stat.st_mtime_ns, str(known[2]))
    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return (stat.st_size, stat.st_mtime_ns, digest)
