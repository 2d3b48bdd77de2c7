"""Messages about invalid settings: place in the file, key, what was expected."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import AfterValidator, BaseModel

from rlaif.config.yaml import Document, Place

_EXPECTED = {
    "string_type": "text",
    "bytes_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "set_type": "a list",
    "dict_type": "keys and values",
    "mapping_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "path_type": "a path",
    "none_required": "nothing",
}

_LIMITS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}

_LENGTHS = {
    "too_short": ("at least", "min_length", "entries"),
    "too_long": ("at most", "max_length", "entries"),
    "string_too_short": ("at least", "min_length", "characters"),
    "string_too_long": ("at most", "max_length", "characters"),
}


def spelled(pattern: str, words: str) -> AfterValidator:
    """Return a validator of texts by a pattern; ``words`` say how to spell a valid text."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"{words} (found {text!r:.60})")
        return text

    return AfterValidator(check)


def explain_all(
    kind: type[BaseModel],
    document: Document,
    errors: Iterable[Any],
    overridden: Mapping[Place, str],
) -> list[str]:
    """Return one line for each mistake.

    Args:
        kind: The settings class.
        document: Source of the data.
        errors: The errors of pydantic.
        overridden: Places that ``--set`` changed, and the keys as they were given there.
    """
    placed = [(*_walk(kind, tuple(error["loc"])), error) for error in errors]
    lines = []
    for shown, owner, error in placed:
        others = [other for place, _, other in placed if place == shown and other is not error]
        deeper = any(
            len(place) > len(shown) and place[: len(shown)] == shown for place, *_ in placed
        )
        if error["type"] == "literal_error" and deeper and isinstance(error["input"], Mapping):
            continue  # a mapping was meant; its own errors are listed
        if _is_mapping_error(error) and any(other["type"] == "literal_error" for other in others):
            continue  # a word was meant
        lines.append(_line(document, overridden, shown, owner, error))
    return list(dict.fromkeys(lines))


def nearest(name: str, valid: Sequence[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest valid name, else the list of valid ones."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; valid: {', '.join(sorted(valid))}" if valid else ""


def _is_mapping_error(error: Any) -> bool:
    return error["type"] in ("model_type", "model_attributes_type", "dict_type")


def _line(
    document: Document,
    overridden: Mapping[Place, str],
    shown: Place,
    owner: type[BaseModel] | None,
    error: Any,
) -> str:
    key = ".".join(str(step) for step in shown)
    below = [place for place in overridden if shown[: len(place)] == place]
    if below:
        where = f"--set {overridden[max(below, key=len)]}"
    else:
        where = document.where(shown)
        above = [given for place, given in overridden.items() if place[: len(shown)] == shown]
        if above and error["type"] == "value_error":
            where += f" (with --set {', '.join(above)})"
    if error["type"] == "extra_forbidden":
        valid = sorted(owner.model_fields) if owner else []
        return f"{where}: unknown key {key!r}{nearest(str(shown[-1]), valid)}"
    if error["type"] == "missing":
        return f"{where}: {key!r} is missing"
    if where == f"--set {key}":
        return f"{where}: {_what(error)}"
    return f"{where}: {key or 'the file'}: {_what(error)}"


def _what(error: Any) -> str:
    kind, given, facts = error["type"], error["input"], error.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "literal_error":
        expected = str(facts["expected"]).replace(" or ", ", ").split(", ")
        valid = [part.strip().strip("'") for part in expected]
        return f"{given!r:.60} is not allowed{nearest(str(given), valid)}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]} (found {given!r:.60})"
    if kind in _LIMITS:
        words, name = _LIMITS[kind]
        return f"must be {words} {facts[name]} (found {given!r:.60})"
    if kind in _LENGTHS:
        words, name, unit = _LENGTHS[kind]
        return f"must have {words} {facts[name]} {unit} (found {given!r:.60})"
    # Without pydantic's names for the types behind a setting.
    message = re.sub(r"^Input should be\b", "must be", str(error["msg"]))
    message = re.sub(r"\b(dictionary|object)\b", "keys and values", message)
    message = re.sub(r" or instance of \w+| for <class '[^']*'>", "", message)
    return f"{message} (found {given!r:.60})"


def _walk(kind: type[BaseModel], place: Place) -> tuple[Place, type[BaseModel] | None]:
    """Drop the steps that pydantic adds for unions; return the place and the model around it."""
    shown: list[str | int] = []
    owner: type[BaseModel] | None = kind
    inside: Any = kind
    for step in place:
        models = _models(inside)
        if isinstance(step, str) and _is_branch(step, models):
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


_BRANCHES = ("literal[", "function-", "tuple[", "list[", "dict[", "constrained-")


def _is_branch(step: str, models: Sequence[type[BaseModel]]) -> bool:
    """Whether a step is pydantic's name for one side of a union."""
    if any(step in model.model_fields for model in models):
        return False
    names = {model.__name__ for model in models}
    return step in names or step.startswith(_BRANCHES) or (step in _SCALARS and bool(models))


_SCALARS = ("str", "int", "float", "bool")


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the settings classes inside an annotation such as ``tuple[JudgeConfig, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
