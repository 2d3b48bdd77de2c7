"""From YAML to settings: overrides, relative paths, and errors that name key, place and cure."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo

from rlaif.config.yaml import Document, Place, load_yaml, parse_yaml
from rlaif.errors import ConfigError


class Settings(BaseModel):
    """Root of all settings: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


SettingsT = TypeVar("SettingsT", bound=Settings)

SHIPPED_MODELS = ("smollm2-135m-instruct",)
"""Names of models that mean the same weights everywhere, whatever lies beside a file."""

ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://|::")
"""What tells an address, such as ``s3://bucket/key``, from a path."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/{1,2}[^/]|.*::")
"""The same after a `Path` took one of the slashes."""

_SECRET = re.compile(
    r":/{1,2}[^/@:]*:(?!\d*/)[^@]*@"  # a password; secret keys may hold slashes, ports none
    r"|https?:/{1,2}[^/@]*@"  # a token; elsewhere it is a container or a user: abfs://box@account
    r"|[?&](x-(amz|goog)-(signature|credential|security-token)|signature|sig|token|access_token"
    r"|api_?key|access_key|secret_key|secret|password)=",
    re.IGNORECASE,
)


class _FromCommandLine(str):
    """Text given with ``--set``: relative paths in it start at the working directory."""

    __slots__ = ()


def _anchor(value: Any, info: ValidationInfo) -> Any:
    """Make a relative path absolute, from the folder of the file that names it."""
    base = (info.context or {}).get("base")
    if not isinstance(value, str | Path) or str(value) == "" or base is None:
        return value
    start = Path.cwd() if isinstance(value, _FromCommandLine) else base
    # Normalised, so that messages and manifests show no ``..`` of the file that named it.
    return Path(os.path.normpath(start / Path(str(value)).expanduser()))


def _refuse_secret(value: Any) -> None:
    if _URL.match(str(value)) and _SECRET.search(str(value)):
        raise ValueError(
            "an address with a password or signature in it would be written into the run: "
            "leave it out, and let the storage library find your credentials"
        )


def _anchor_unless_address(value: Any, info: ValidationInfo) -> Any:
    """The same for what may be an address: those stay as they are, and hold no secrets."""
    _refuse_secret(value)
    if isinstance(value, str) and ADDRESS.search(value):
        return str(value)
    anchored = _anchor(value, info)
    return str(anchored) if isinstance(anchored, Path) else anchored


def _anchor_unless_url(value: Any, info: ValidationInfo) -> Any:
    """The same, but a URL stays as it is, unless it is one of a file here; it holds no secrets."""
    _refuse_secret(value)
    if isinstance(value, str) and value.startswith("file://"):
        return Path(value.removeprefix("file://"))
    return Path(str(value)) if ADDRESS.search(str(value)) else _anchor(value, info)


def _anchor_if_there(value: Any, info: ValidationInfo) -> Any:
    """The same for what may be a file or a name: only when such a file or folder exists."""
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
    """The same for what no folder can be: a folder of that name changes nothing."""
    anchored = _anchor_if_there(value, info)
    return str(value) if isinstance(anchored, str) and Path(anchored).is_dir() else anchored


def word_or_path(*words: str) -> BeforeValidator:
    """Return what reads these words as they are, and other text as a `NameOrPath`."""

    def anchor(value: Any, info: ValidationInfo) -> Any:
        return str(value) if value in words else _anchor_if_there(value, info)

    return BeforeValidator(anchor)


FilePath = Annotated[Path, BeforeValidator(_anchor)]
"""A path; relative ones start at the folder of the file that names them."""

PathOrAddress = Annotated[str, BeforeValidator(_anchor_unless_address)]
"""A path, as `FilePath`, or an address such as ``s3://bucket/key``; both may be patterns."""

FolderOrUrl = Annotated[Path, BeforeValidator(_anchor_unless_url)]
"""The same, or a URL such as ``s3://bucket/run``, which a `Path` holds with one slash less."""

NameOrPath = Annotated[str, BeforeValidator(_anchor_if_there)]
"""A name, or a file or folder where one exists under the folder of the file that names it."""

NameOrFile = Annotated[str, BeforeValidator(_anchor_if_file)]
"""The same, but folders do not count."""

ModelName = Annotated[str, word_or_path(*SHIPPED_MODELS)]
"""The same for a model: a shipped name comes before a file or folder of that name."""


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
        ConfigError: With every problem on a line of its own: where, which key, what, nearest key.
    """
    if isinstance(source, Mapping):
        document = Document(Path("<config>"), _copy(source), {})
        base = Path.cwd()
    else:
        document = load_yaml(Path(source), ConfigError)
        base = Path(source).resolve().parent
    if not isinstance(document.data, dict):
        found = f"{document.data!r:.40}"
        raise ConfigError(f"{document.where()}: expected keys and values, found {found}")
    data = document.data
    for dotted, value in (overrides or {}).items():
        _override(data, dotted, _mark_strings(value))
    unusable = [
        f"{document.where(place)}: {'.'.join(map(str, place))}: {why}"
        for place, why in _unusable(data)
    ]
    if unusable:
        raise ConfigError("\n".join(unusable))
    try:
        return kind.model_validate(data, context={"base": base})
    except ValidationError as problem:
        lines = [_explain(kind, document, error) for error in problem.errors()]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` texts.

    A value that is valid JSON is taken as such; so is a list or mapping in YAML's brackets, such as
    ``[a, b]`` and ``{a: 1}``; anything else is text.

    Raises:
        ConfigError: A text without ``=`` or without a key.
    """
    overrides: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment!r}: expected key=value")
        overrides[key.strip()] = _value_of(value)
    return overrides


def _value_of(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    if f"{text[:1]}{text[-1:]}" not in ("[]", "{}"):
        return text
    try:
        return parse_yaml(text, Path("<--set>"), ConfigError).data
    except ConfigError:  # a pattern of file names, for one
        return text


def nearest(name: str, valid: Sequence[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest valid name, else the list of valid ones."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; valid: {', '.join(sorted(valid))}" if valid else ""


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    return value


def _unusable(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yield what neither a manifest nor a file name can hold, whatever key it is the value of."""
    match value:
        case int() if not -(2**63) <= value < 2**64:
            yield place, f"{value!r:.30} needs more than 64 bits"
        case str() if "\0" in value:
            yield place, f"{value!r:.60} holds a zero byte"
        case dict():
            for key, item in value.items():
                yield from _unusable(item, (*place, str(key)))
        case list():
            for index, item in enumerate(value):
                yield from _unusable(item, (*place, index))
        case _:
            pass


def _mark_strings(value: Any) -> Any:
    if isinstance(value, str):
        return _FromCommandLine(value)
    if isinstance(value, dict):
        return {key: _mark_strings(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mark_strings(item) for item in value]
    return value


def _override(data: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    target: Any = data
    for step, name in enumerate(parents):
        where = ".".join(parents[: step + 1])
        if isinstance(target, list):
            target = target[_index(target, name, dotted, where)]
        else:
            if target.get(name) is None:
                target[name] = {}
            target = target[name]
        if not isinstance(target, dict | list):
            raise ConfigError(f"--set {dotted}: {where} is {target!r:.40}, which has no parts")
    if isinstance(target, list):
        target[_index(target, last, dotted, dotted)] = value
    else:
        target[last] = value


def _index(items: list[Any], name: str, dotted: str, where: str) -> int:
    if not name.isdigit() or int(name) >= len(items):
        raise ConfigError(
            f"--set {dotted}: {where} is not one of the {len(items)} items of that list (from 0)"
        )
    return int(name)


def _explain(kind: type[BaseModel], document: Document, error: Any) -> str:
    place: Place = tuple(error["loc"])
    shown, owner = _walk(kind, place)
    where = document.where(shown)
    key = ".".join(str(step) for step in shown) or "the file"
    match error["type"]:
        case "extra_forbidden":
            valid = sorted(owner.model_fields) if owner else []
            return f"{where}: unknown key {key!r}{nearest(str(place[-1]), valid)}"
        case "missing":
            return f"{where}: {key!r} is missing"
        case "value_error" | "assertion_error":
            message = str(error["msg"]).removeprefix("Value error, ")
            return f"{where}: {key}: {message}"
        case "literal_error":
            given = error["input"]
            valid = [part.strip().strip("'") for part in _expected(error)]
            return f"{where}: {key}: {given!r} is not allowed{nearest(str(given), valid)}"
        case _:
            return f"{where}: {key}: {error['msg']} (found {error['input']!r:.60})"


def _expected(error: Any) -> list[str]:
    return str(error["ctx"]["expected"]).replace(" or ", ", ").split(", ")


def _walk(kind: type[BaseModel], place: Place) -> tuple[Place, type[BaseModel] | None]:
    """Drop the steps pydantic adds for unions; return the place and the model it lies in."""
    shown: list[str | int] = []
    owner: type[BaseModel] | None = kind
    inside: Any = kind
    for step in place:
        models = _models(inside)
        names = {model.__name__ for model in models}
        if isinstance(step, str) and (step in names or step.startswith(("literal[", "function-"))):
            inside = next((m for m in models if m.__name__ == step), inside)
            owner = inside if isinstance(inside, type) else owner
            continue
        shown.append(step)
        holder = next((m for m in models if step in m.model_fields), None)
        if holder is not None:
            owner = holder
            inside = holder.model_fields[str(step)].annotation
        elif models:
            owner = models[0]
    return tuple(shown), owner


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the settings classes inside an annotation such as ``tuple[JudgeConfig, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
