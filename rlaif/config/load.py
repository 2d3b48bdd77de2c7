"""From YAML to settings: ``--set`` overrides, relative paths, and errors with key and place."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo

from rlaif.config.explain import explain_all, nearest as nearest, spelled
from rlaif.config.yaml import (
    Document,
    FromCommandLine,
    Place,
    apply_overrides,
    load_yaml,
    parse_overrides as parse_overrides,
)
from rlaif.errors import ConfigError


class Settings(BaseModel):
    """Root of all settings: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    INERT: ClassVar[frozenset[str]] = frozenset()
    """Fields of this class that change no result, only pace, place or display, so they may differ
    when work is resumed. Those of base classes are added."""

    IMPLIED: ClassVar[Mapping[str, Any]] = {}
    """Fields that runs on users' disks are older than, each with what a plan without it means. That
    value stays out of plans, so that such a run is still the same and can be resumed."""

    def planned(self) -> dict[str, Any]:
        """Return all fields as plain data, but for those with the value that is implied."""
        values = self.model_dump(mode="json")
        return {
            name: value
            for name, value in values.items()
            if name not in self.IMPLIED or value != self.IMPLIED[name]
        }

    @classmethod
    def inert(cls) -> frozenset[str]:
        """Return `INERT` of this class and its bases."""
        return frozenset().union(*(vars(base).get("INERT", ()) for base in cls.__mro__))

    def content(self) -> dict[str, Any]:
        """Return as plain data what changes the result: all fields except the inert ones."""
        return self.model_dump(mode="json", exclude=set(self.inert()))

    def part(self, kind: "type[PartT]") -> "PartT":
        """Return one of the records that this file's schema is composed of."""
        values = {name: getattr(self, name) for name in kind.model_fields}
        return cast("PartT", kind.model_construct(**values))


SettingsT = TypeVar("SettingsT", bound=Settings)
PartT = TypeVar("PartT", bound=Settings)

SHIPPED_MODELS = ("smollm2-135m-instruct",)
"""Names of bundled models: the same weights everywhere, even beside a folder of that name."""

ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://|::")
"""Matches an address, such as ``s3://bucket/key``, and no path."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/{1,2}[^/]|.*::")
"""The same after a `Path` removed one of the slashes."""

_SECRET = re.compile(
    r":/{1,2}[^/@:]*:(?!\d*/)[^@]*@"  # a password; secret keys may contain slashes, ports do not
    r"|https?:/{1,2}[^/@]*@"  # a token; elsewhere a container or user: abfs://box@account
    r"|[?&](x-(amz|goog)-(signature|credential|security-token)|signature|sig|token|access_token"
    r"|api_?key|access_key|secret_key|secret|password)=",
    re.IGNORECASE,
)


def _anchor(value: Any, info: ValidationInfo) -> Any:
    """Make a relative path absolute; it starts at the folder of the file that names it."""
    base = (info.context or {}).get("base")
    if not isinstance(value, str | Path) or str(value) == "" or base is None:
        return value
    start = Path.cwd() if isinstance(value, FromCommandLine) else base
    # Normalised, so that messages and manifests do not contain ``..``.
    return Path(os.path.normpath(start / Path(str(value)).expanduser()))


def _refuse_secret(value: Any) -> None:
    if _URL.match(str(value)) and _SECRET.search(str(value)):
        raise ValueError(
            "an address with a password or signature in it would be written into the run: "
            "leave it out, and let the storage library find your credentials"
        )


def _anchor_unless_address(value: Any, info: ValidationInfo) -> Any:
    """The same for what may be an address: addresses stay unchanged, secrets are refused."""
    _refuse_secret(value)
    if isinstance(value, str) and ADDRESS.search(value):
        return str(value)
    anchored = _anchor(value, info)
    return str(anchored) if isinstance(anchored, Path) else anchored


def _anchor_unless_url(value: Any, info: ValidationInfo) -> Any:
    """The same for what may be a URL: only ``file://`` becomes a path, secrets are refused."""
    _refuse_secret(value)
    if isinstance(value, str) and value.startswith("file://"):
        return Path(value.removeprefix("file://"))
    return Path(str(value)) if ADDRESS.search(str(value)) else _anchor(value, info)


def _anchor_if_there(value: Any, info: ValidationInfo) -> Any:
    """The same for what may be a file or a name: changed only if the file or folder exists."""
    if not isinstance(value, str):
        return value
    anchored = _anchor(value, info)
    return str(anchored) if isinstance(anchored, Path) and _is_there(anchored) else str(value)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for any file, or a folder that may not be looked into
        return False


def _anchor_if_file(value: Any, info: ValidationInfo) -> Any:
    """The same, but a folder of that name is ignored."""
    anchored = _anchor_if_there(value, info)
    return str(value) if isinstance(anchored, str) and Path(anchored).is_dir() else anchored


def word_or_path(*words: str) -> BeforeValidator:
    """Return a validator that keeps these words and reads other text as a `NameOrPath`."""

    def anchor(value: Any, info: ValidationInfo) -> Any:
        return str(value) if value in words else _anchor_if_there(value, info)

    return BeforeValidator(anchor)


FilePath = Annotated[Path, BeforeValidator(_anchor)]
"""A path; relative ones start at the folder of the file that names them."""

PathOrAddress = Annotated[str, BeforeValidator(_anchor_unless_address)]
"""A path, as `FilePath`, or an address such as ``s3://bucket/key``; both may be patterns."""

FolderOrUrl = Annotated[Path, BeforeValidator(_anchor_unless_url)]
"""The same, or a URL such as ``s3://bucket/run``, which a `Path` stores with one slash less."""

NameOrPath = Annotated[str, BeforeValidator(_anchor_if_there)]
"""A name, or a file or folder if it exists below the folder of the file that names it."""

NameOrFile = Annotated[str, BeforeValidator(_anchor_if_file)]
"""The same, but folders are ignored."""

ShortName = Annotated[
    str,
    spelled(
        r"[A-Za-z0-9][A-Za-z0-9_.-]*",
        "use letters, digits, '.', '_' and '-' only, and start with a letter or a digit",
    ),
]
"""A name that can be part of a file's name."""

GiveUpAfter = Annotated[
    int,
    Field(
        ge=0,
        description="Stop when so many first calls of a kind failed for the same reason and none "
        "succeeded; 0: never.",
    ),
]
"""How many equal failures at the start end a command that asks models."""

AskFirst = Annotated[
    bool,
    Field(
        description="Ask each server once before the first call, so that a dead address, a wrong "
        "key or model, or unreadable labels stop the command before anything is sampled."
    ),
]
"""Whether a command that asks models tries every server first."""

MaxFailedShare = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="Work that finished ends with exit code 5 when a larger share of its prompts, "
        "or of the calls of one role, failed.",
    ),
]
"""The largest share of failures with which work counts as done."""

REMOTE_ENGINES = ("openai", "scripted")
"""Engines whose models are names alone: what lies beside the file has nothing to do with them."""


def _anchor_model(value: Any, info: ValidationInfo) -> Any:
    if info.data.get("engine") in REMOTE_ENGINES or value in (*SHIPPED_MODELS, "same-as-student"):
        return value
    return _anchor_if_there(value, info)


ModelName = Annotated[str, BeforeValidator(_anchor_model)]
"""The same for a model: a bundled name comes before a file or folder of that name, and a name that
a server knows is sent as it is written."""

_LARGEST = 2**63


def _unusable(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yield what neither a record nor a file name can hold; texts and ids of prompts may."""
    if place == ("prompts", "items"):
        return
    match value:
        case int() if not -_LARGEST <= value < _LARGEST:
            yield place, "the number is too large (below 2**63)"
        case str() if "\0" in value:
            yield place, f"{value!r:.60} holds a zero byte"
        case Mapping():
            for key, item in value.items():
                yield from _unusable(item, (*place, str(key)))
        case list() | tuple():
            for number, item in enumerate(value):
                yield from _unusable(item, (*place, number))
        case _:
            pass


def load_config(
    kind: type[SettingsT],
    source: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
) -> SettingsT:
    """Read settings from a YAML file, or from a mapping given in Python.

    Args:
        kind: The settings class.
        source: The file; or plain data, whose relative paths start at the working directory.
        overrides: Dotted keys to values, such as ``{"judges.0.model": "other"}``.

    Raises:
        ConfigError: Lists every problem: place, key, what is wrong, nearest key.
    """
    if isinstance(source, Mapping):
        document = Document(Path("<config>"), _copy(source), {})
        base = Path.cwd()
    else:
        document = load_yaml(Path(source), ConfigError)
        base = Path(source).resolve().parent
    if not isinstance(document.data, dict):
        where = document.where()
        raise ConfigError(f"{where}: expected keys and values, found {document.data!r:.40}")
    data = document.data
    if isinstance(data.get("prompts"), list):
        # The short form, expanded here so that overrides such as prompts.limit work.
        data["prompts"] = {"items": data["prompts"]}
    overridden = apply_overrides(data, overrides or {})
    unusable = []
    for place, why in _unusable(data):
        given = [key for at, key in overridden.items() if place[: len(at)] == at]
        where = f"--set {given[0]}" if given else document.where(place)
        unusable.append(f"{where}: {'.'.join(map(str, place))}: {why}")
    if unusable:
        raise ConfigError("\n".join(unusable))
    try:
        return kind.model_validate(data, context={"base": base})
    except ValidationError as problem:
        lines = explain_all(kind, document, problem.errors(include_url=False), overridden)
        raise ConfigError("\n".join(lines)) from None


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    return value
