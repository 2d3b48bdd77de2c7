"""The manifest: the configuration of a run. Written once; the results are in the shards.

The *plan* in it determines the rows. A run resumes only under the plan it was started with, so that
a run never contains rows of two kinds.
"""

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from rlaif.errors import RunError, RunMismatch
from rlaif.records import canonical_json, content_id
from rlaif.runs.files import write_whole
from rlaif.runs.layout import Layout

MANIFEST_NUMBER = 1
"""Raise it with every change of the fields."""

_SHOWN_KEYS = 8
_SHOWN_CHARACTERS = 60
_LIBRARIES = ("constitutional-rlaif", "openai", "pyarrow", "torch", "transformers", "vllm")


class Manifest(BaseModel):
    """Configuration, models and versions of a run, without secrets.

    Build with `Manifest.build`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = MANIFEST_NUMBER
    """Version of the file format."""

    name: str
    fingerprint: str
    """32 hex digits over the plan."""

    plan: dict[str, Any]
    """Everything that determines the rows, except the prompts."""

    config: dict[str, Any]
    """The validated settings, for people to read."""

    constitution_label: str
    """``name@fingerprint``"""

    constitution: dict[str, Any]
    """The whole constitution, including its texts."""

    engines: dict[str, dict[str, Any]]
    """From role, such as ``student`` or ``judge:main``, to the engine's identity."""

    notices: tuple[str, ...] = ()
    """Facts for every reader of the data, such as that the student judged itself."""

    versions: dict[str, str]
    """Versions of Python and of installed libraries that can change results."""

    created: float
    """Unix seconds."""

    @classmethod
    def build(
        cls,
        *,
        name: str,
        plan: Mapping[str, Any],
        config: Mapping[str, Any],
        constitution_label: str,
        constitution: Mapping[str, Any],
        engines: Mapping[str, Mapping[str, Any]],
        notices: Sequence[str] = (),
    ) -> "Manifest":
        """Make a manifest for a new run, with the current time and the installed versions.

        All arguments must be JSON-compatible; tuples become lists.

        Raises:
            TypeError: An argument is not JSON-compatible.
        """
        parts = {
            "plan": plan,
            "config": config,
            "constitution": constitution,
            "engines": engines,
            "notices": notices,
        }
        plain = orjson.loads(canonical_json(parts))
        return cls(
            name=name,
            fingerprint=content_id("plan", plain["plan"]),
            constitution_label=constitution_label,
            versions=_versions(),
            created=time.time(),
            **plain,
        )

    @property
    def label(self) -> str:
        """``name@fingerprint`` (12 digits), which marks data sets and shards."""
        return f"{self.name}@{self.fingerprint[:12]}"

    @property
    def templates(self) -> dict[str, str]:
        """Template names to fingerprints, from the plan."""
        return dict(self.plan.get("templates", {}))


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write the manifest of a run directory.

    Raises:
        RunError: The folder cannot be written or the disk is full.
    """
    data = orjson.dumps(manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
    write_whole(Layout(directory).manifest, data + b"\n")


def load_manifest(directory: Path) -> Manifest:
    """Read the manifest of a run directory.

    Raises:
        FileNotFoundError: The manifest is missing.
        RunError: It is damaged.
        RunMismatch: It was written by a newer version.
    """
    path = Layout(directory).manifest
    try:
        data = orjson.loads(path.read_bytes())
        number = data["number"]
        if not isinstance(number, int):
            raise TypeError("number is not an integer")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    if number > MANIFEST_NUMBER:
        raise RunMismatch(
            f"{path}: written by a newer version (manifest {number}, this one supports "
            f"{MANIFEST_NUMBER})",
            hint="pip install --upgrade constitutional-rlaif",
        )
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise _damaged(path, f"{place}: {first['msg']}") from error
    if odd := _odd_part(manifest):
        raise _damaged(path, f"{odd} is not what it was written as")
    if manifest.fingerprint != content_id("plan", manifest.plan):
        raise _damaged(path, "the plan does not match its fingerprint: it was edited")
    return manifest


def _odd_part(manifest: Manifest) -> str:
    """Name a part that readers look into and that has another type than was written."""
    config, constitution = manifest.config, manifest.constitution
    for name in ("prompts", "judging"):
        if not isinstance(config.get(name), dict | None):
            return f"config.{name}"
    compared = (config.get("prompts") or {}).get("decontaminate")
    if compared is not None and not _all_texts(compared, "against"):
        return "config.prompts.decontaminate"
    if not _all_have(config.get("judges") or [], "name"):
        return "config.judges"
    wishes = constitution.get("principles", [])
    return "" if _all_have(wishes, "id", "statement") else "constitution.principles"


def _all_have(items: Any, *keys: str) -> bool:
    return isinstance(items, list) and all(
        isinstance(item, dict) and all(isinstance(item.get(key), str) for key in keys)
        for item in items
    )


def _all_texts(holder: Any, key: str) -> bool:
    items = holder.get(key) if isinstance(holder, dict) else None
    return isinstance(items, list) and all(isinstance(item, str) for item in items)


def check_same_plan(directory: Path, there: Manifest, asked: Manifest) -> None:
    """Check that resuming in a directory makes rows of the same kind.

    Raises:
        RunMismatch: The plans differ; lists keys, old and new values.
    """
    if there.fingerprint == asked.fingerprint:
        return
    changes = list(_changes(there.plan, asked.plan))
    shown = [f"  {key}: {old} → {new}" for key, old, new in changes[:_SHOWN_KEYS]]
    if len(changes) > _SHOWN_KEYS:
        shown.append(f"  and {len(changes) - _SHOWN_KEYS} more")
    raise RunMismatch(
        "\n".join([f"{directory}: contains rows made with other settings:", *shown]),
        hint="choose another `out` (with this run under `reuse`, equal calls cost nothing), "
        "or restore the old settings",
    )


_MISSING = object()


def _changes(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield dotted key, old and new value of everything that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            below = f"{key}.{name}" if key else name
            yield from _changes(old.get(name, _MISSING), new.get(name, _MISSING), below)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _changes(before, after, f"{key}.{place}")
    elif old is _MISSING or new is _MISSING or canonical_json(old) != canonical_json(new):
        yield key, _shown(old), _shown(new)


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "(not set)"
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[library] = version(library)
    return versions


def _damaged(path: Path, why: str) -> RunError:
    return RunError(
        f"{path}: damaged manifest: {why}",
        hint="restore it from a copy; or start in another `out` with this run under `reuse`, so "
        "that its calls cost nothing again",
    )
