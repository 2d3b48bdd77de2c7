"""The manifest: what was asked of a run. Written once; what came of it is in the shards.

The *plan* inside it is what determines the rows. A run directory goes on only under the plan it was
started with, so that no run ever holds rows of two kinds.
"""

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
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
    """What was asked of a run, by whom it is answered, and with which versions. Without secrets.

    Build with `Manifest.build`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = MANIFEST_NUMBER
    """Of this file's format."""

    name: str
    fingerprint: str
    """32 hex digits over the plan."""

    plan: dict[str, Any]
    """Everything that determines the rows, prompts excepted."""

    config: dict[str, Any]
    """The run's settings as validated, for people to read."""

    constitution_label: str
    """``name@fingerprint``"""

    constitution: dict[str, Any]
    """The whole constitution, words and all."""

    engines: dict[str, dict[str, Any]]
    """Role, such as ``student`` or ``judge:main``, to the engine's identity."""

    notices: tuple[str, ...] = ()
    """What every reader of the data must know, such as that the student judged itself."""

    versions: dict[str, str]
    """Python and the libraries that can change results, as far as they are installed."""

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
        """Make a manifest for a new run, with this moment and the installed versions.

        Everything given must be JSON-compatible; tuples become lists.

        Raises:
            TypeError: Something is not JSON-compatible.
        """
        asked = {
            "plan": plan,
            "config": config,
            "constitution": constitution,
            "engines": engines,
            "notices": notices,
        }
        plain = orjson.loads(canonical_json(asked))
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
        """``name@fingerprint``, first 12 digits: what data sets and shards are marked with."""
        return f"{self.name}@{self.fingerprint[:12]}"

    @property
    def templates(self) -> dict[str, str]:
        """Template name to fingerprint, as the plan has them."""
        return dict(self.plan.get("templates", {}))


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write it whole into a run directory.

    Raises:
        RunError: The folder cannot be written or the disk is full.
    """
    data = orjson.dumps(manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
    write_whole(Layout(directory).manifest, data + b"\n")


def load_manifest(directory: Path) -> Manifest:
    """Read the manifest of a run directory.

    Raises:
        FileNotFoundError: There is none.
        RunError: It is damaged.
        RunMismatch: It was written by a newer version.
    """
    path = Layout(directory).manifest
    try:
        data = orjson.loads(path.read_bytes())
        number = data["number"]
        if not isinstance(number, int):
            raise TypeError("number is no number")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    if number > MANIFEST_NUMBER:
        raise RunMismatch(
            f"{path}: written by a newer version (manifest {number}, this one knows "
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
    """Make sure that going on in a directory makes rows of the same kind.

    Raises:
        RunMismatch: The plans differ; lists the keys, old and new values.
    """
    if there.fingerprint == asked.fingerprint:
        return
    changes = list(_changes(there.plan, asked.plan))
    shown = [f"  {key}: {old} → {new}" for key, old, new in changes[:_SHOWN_KEYS]]
    if len(changes) > _SHOWN_KEYS:
        shown.append(f"  and {len(changes) - _SHOWN_KEYS} more")
    raise RunMismatch(
        "\n".join([f"{directory}: holds rows made under other settings:", *shown]),
        hint="choose another `out` (with `reuse` naming this run, equal calls cost nothing), "
        "or go back to the old settings",
    )


_ABSENT = object()


def _changes(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield dotted key, old and new value of everything that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            below = f"{key}.{name}" if key else name
            yield from _changes(old.get(name, _ABSENT), new.get(name, _ABSENT), below)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _changes(one, other, f"{key}.{place}")
    elif old is _ABSENT or new is _ABSENT or canonical_json(old) != canonical_json(new):
        yield key, _shown(old), _shown(new)


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "(absent)"
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _damaged(path: Path, why: str) -> RunError:
    return RunError(
        f"{path}: damaged manifest: {why}",
        hint="restore it from a copy; or start anew in another `out`, with `reuse` naming this "
        "run, so that its calls cost nothing again",
    )
