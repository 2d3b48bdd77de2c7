"""The fingerprint of a model folder: a hash of everything that can change its output.

Whole files are hashed, so a checkpoint that was trained further in the same folder has another
fingerprint, however few of its weights changed. Digests are cached by size and modification time.
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
    """Return the cache folder, for converted models and digests. It may not exist yet."""
    given = os.environ.get("RLAIF_CACHE")
    if given:
        return Path(given).expanduser().resolve()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "rlaif"


_WEIGHTS = ".safetensors"
_ENDS = (_WEIGHTS, ".safetensors.index.json")
_NAMES = ("config.json", "generation_config.json", "adapter_config.json", "added_tokens.json")
_STARTS = ("tokenizer", "chat_template", "special_tokens", "vocab", "merges")

_CLOCK_TICK = 2_000_000_000  # ns; within it a file can change without a new modification time


def model_fingerprint(path: Path | str) -> str:
    """Return 32 hex digits for the model in a folder: weights, config, tokenizer, template.

    The fingerprint of an adapter includes its base model, if that is a local folder.

    Raises:
        InputError: Not a folder, or a folder without model weights.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder")
    files = [file for file in sorted(folder.resolve().iterdir()) if _is_hashed(file.name)]
    if not any(file.name.endswith(_WEIGHTS) for file in files):
        raise InputError(
            f"{folder}: no model weights (*{_WEIGHTS}) in this folder",
            hint="pickled weights (.bin) are not read; if you trust them, load them with "
            "transformers and save them with save_pretrained()",
        )
    digests = _digests(folder.resolve(), files)
    base = _base_of_adapter(folder)
    if base is not None:
        digests["base model"] = model_fingerprint(base)
    return content_id("model", digests)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, from the cache if possible."""
    path = path.resolve()
    return _digests(path.parent, [path])[path.name]


def _is_hashed(name: str) -> bool:
    return name.endswith(_ENDS) or name in _NAMES or name.startswith(_STARTS)


def _base_of_adapter(folder: Path) -> Path | None:
    try:
        config = orjson.loads((folder / "adapter_config.json").read_bytes())
    except (OSError, ValueError):
        return None
    base = config.get("base_model_name_or_path")
    return Path(base) if base and Path(base).is_dir() else None


def _digests(folder: Path, files: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of files of one folder; only files of a new size or time are read again."""
    record = cache_folder() / "digests" / f"{content_id('folder', str(folder))}.json"
    try:
        known = orjson.loads(record.read_bytes())
    except (OSError, ValueError):
        known = {}
    entries = {file.name: _entry(file, known.get(file.name)) for file in files}
    # A file written just now could change again without a new modification time.
    settled = {name: e for name, e in entries.items() if time.time_ns() - e[1] > _CLOCK_TICK}
    if any(known.get(name) != [*entry] for name, entry in settled.items()):
        with contextlib.suppress(OSError):  # without a writable cache this only takes longer
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
