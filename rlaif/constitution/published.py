"""Published lists of principles as a constitution of ours: three layouts, recognised by content.

*critiques*  {"name": {"prompt": [critique request, …], "edit_request": revision request}, …}, as
             in the repository of Bai et al. 2022 (2212.08073); ``prompt`` may be a string
*choices*    "Please choose the response that …" or "Which of these responses is …?", a JSON list,
             or a text with one per line
*traits*     "I …" sentences about a character (Open Character Training), the same two ways

A list says less than a principle of ours holds. What can be derived from its words is derived here;
the rest is left out, and lint names it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import orjson

from rlaif.errors import ConstitutionError

Layout = Literal["critiques", "choices", "traits"]
Entry = dict[str, str]
"""Fields of a principle as a constitution file holds them."""

_STUB = re.compile(r"\s*\b(Critique|Revision|Options|Answer)\s*:\s*$", re.I)
_HEAD = re.compile(
    r"^\s*(CritiqueRequest|RevisionRequest|Critique Request|Revision Request)\s*:", re.I
)
_CHOOSE = re.compile(
    r"\b(?:choose|pick|select|prefer|indicate)\s+(?:the|whichever)\s+"
    r"(?:assistant(?:['’]s)?\s+)?(?:response|answer|reply)\s+(?:that\s+|which\s+)?",
    re.I,
)
_WHICH = re.compile(
    r"^which\s+(?:one\s+)?(?:of\s+(?:these|the)\s+)?(?:two\s+)?(?:assistant(?:['’]s)?\s+)?"
    r"(?:responses?|answers?|replies|reply)\s+(?:from\s+the\s+(?:ai\s+)?assistant\s+)?",
    re.I,
)
_FAULTY = re.compile(
    r"(?:assistant['’]s\s+)?(?:last\s+|previous\s+)?(?:response|answer|reply)\s+(?:is|was)\s+(.+?)[.?!]*$",
    re.I,
)
_MARK = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_TRAIT = re.compile(r"^i\b|^i['’]", re.I)
_SWAPS = {
    "i": "you",
    "me": "you",
    "my": "your",
    "mine": "yours",
    "myself": "yourself",
    "i'm": "you are",
    "i'll": "you will",
    "i've": "you have",
    "i'd": "you would",
    "am": "are",
}
_NEGATED = re.compile(
    r"^i\s+(?:do\s+not|don['’]t|never|will\s+not|won['’]t|would\s+not|wouldn['’]t|cannot|can['’]t"
    r"|refuse\s+to|avoid)\s+",
    re.I,
)


def read_published(path: Path, layout: Layout | None = None) -> list[Entry]:
    """Return the principles of a published list, in its order, with unique ids.

    Args:
        path: JSON or text, UTF-8.
        layout: Of the list (default: recognised by its content).

    Raises:
        ConstitutionError: The file cannot be read, or has no principle in one of the layouts.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise ConstitutionError(f"{path}: cannot be read: {problem}") from None
    content = _parse(text)
    if isinstance(content, dict) and layout in (None, "critiques"):
        entries = [_critique(path, name, value) for name, value in content.items()]
    else:
        sentences = list(_sentences(path, content))
        traits = sum(bool(_TRAIT.match(sentence)) for sentence in sentences)
        as_traits = layout == "traits" or (layout is None and traits > len(sentences) / 2)
        entries = [(_trait if as_traits else _choice)(path, s) for s in sentences]
    if not entries:
        raise ConstitutionError(f"{path}: no principle found", hint=_LAYOUTS)
    return _with_ids(entries)


def _parse(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        lines = (_MARK.sub("", line).strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]


_LAYOUTS = (
    'expected {"name": {"prompt": […], "edit_request": "…"}}, a list of "Please choose the '
    'response that …", or a list of "I …" sentences'
)


def _sentences(path: Path, content: Any) -> Iterator[str]:
    items = content if isinstance(content, list) else []
    for place, item in enumerate(items):
        if isinstance(item, dict):  # {"trait": …} and the like: its only text
            texts = [value for value in item.values() if isinstance(value, str)]
            item = texts[0] if len(texts) == 1 else None
        if not isinstance(item, str) or not item.strip():
            raise ConstitutionError(f"{path}: entry {place + 1} is not one sentence", hint=_LAYOUTS)
        yield _plain(item)


def _critique(path: Path, name: str, value: Any) -> Entry:
    parts = value if isinstance(value, dict) else {}
    prompt, edit = parts.get("prompt"), parts.get("edit_request")
    critique = " ".join(prompt) if isinstance(prompt, list) and _is_texts(prompt) else prompt
    if not isinstance(critique, str) or not isinstance(edit, str):
        raise ConstitutionError(
            f"{path}: {name!r} has no prompt and edit_request with text", hint=_LAYOUTS
        )
    critique, revision = _plain(critique), _plain(edit)
    fault = _FAULTY.search(critique.split(". ")[0])
    if fault is None:
        wish = re.sub(r"^please\s+", "", revision.split(". ")[0], flags=re.I).rstrip(".")
        return {
            "statement": f"Respond so that nobody would have to {wish[:1].lower()}{wish[1:]}.",
            "polarity": "encourage",
            "critique_request": critique,
            "revision_request": revision,
        }
    return {
        "statement": f"Do not give a response that is {fault[1]}.",
        "polarity": "avoid",
        "critique_request": critique,
        "revision_request": revision,
        "comparison": f"Which response is less {_one_of(fault[1])}?",
        "opposite": f"Give a response that is {fault[1]}.",
    }


def _choice(path: Path, sentence: str) -> Entry:
    chosen = _CHOOSE.search(sentence)
    rest = sentence[chosen.end() :] if chosen else _WHICH.sub("", sentence)
    if chosen is None and rest == sentence:
        raise ConstitutionError(
            f"{path}: neither 'choose the response that …' nor 'which response …': {sentence!r}",
            hint=_LAYOUTS,
        )
    rest = re.sub(r"^(?:are)\b", "is", re.split(r"(?<=[.?!])\s", rest)[0].rstrip(".?! "))
    return {
        "statement": f"Give the response that {rest}.",
        "polarity": "encourage",
        "comparison": f"Which response {rest}?",
        "critique_request": f"Point out each place where the response is not the one that {rest}.",
        "revision_request": f"Rewrite the response so that it becomes the one that {rest}.",
    }


def _trait(path: Path, sentence: str) -> Entry:
    if not _TRAIT.match(sentence):
        raise ConstitutionError(f"{path}: not a sentence that begins with I: {sentence!r}")
    bare = sentence.rstrip(".!")
    negated = _NEGATED.match(bare)
    if negated:
        statement = f"Do not {_to_you(bare[negated.end() :])}."
        opposite = _capital(f"{_to_you(bare[negated.end() :])}.")
    else:
        bare = re.sub(r"^i['’]m\b", "I am", bare, flags=re.I)
        verb = re.sub(r"^i\s+am\b", "be", bare, flags=re.I)
        verb = re.sub(r"^i\s+", "", verb, flags=re.I)
        statement = _capital(f"{_to_you(verb)}.")
        opposite = f"Do not {_to_you(verb)}."
    return {
        "statement": statement,
        "polarity": "avoid" if negated else "encourage",
        "comparison": f'Which response fits better an assistant that says of itself: "{sentence}"?',
        "critique_request": f'Point out where the response does not fit this: "{sentence}"',
        "revision_request": f'Rewrite the response so that it fits this: "{sentence}"',
        "opposite": opposite,
    }


def _plain(text: str) -> str:
    """A request without the labels of its transcript, on one line."""
    return " ".join(_STUB.sub("", _HEAD.sub("", text)).split())


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, str) for x in value)


def _one_of(faults: str) -> str:
    """``harmful, unethical, or racist`` as an adjective phrase that "less" can stand before."""
    return re.sub(r",?\s+and(?:/or)?\s+(?=[\w-]+$)", ", or ", faults)


def _to_you(words: str) -> str:
    def swap(match: re.Match[str]) -> str:
        return _SWAPS.get(match[0].lower().replace("’", "'"), match[0])

    return re.sub(r"\b[\w]+(?:['’]\w+)?\b", swap, words)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_SMALL = (
    "a",
    "an",
    "and",
    "be",
    "give",
    "in",
    "is",
    "it",
    "of",
    "or",
    "response",
    "that",
    "the",
    "to",
)


def _with_ids(entries: list[Entry]) -> list[Entry]:
    """Give each an id from the first telling words of its statement."""
    taken: set[str] = set()
    named = []
    for entry in entries:
        words = re.findall(
            r"[a-z0-9]+", entry["statement"].lower().replace("’", "").replace("'", "")
        )
        telling = [word for word in words if word not in _SMALL][:5]
        base = slug = "-".join(telling) or "principle"
        number = 2
        while slug in taken:
            slug, number = f"{base}-{number}", number + 1
        taken.add(slug)
        named.append({"id": slug, **entry})
    return named


def as_yaml(name: str, entries: list[Entry]) -> bytes:
    """Write principles as a constitution file; JSON strings are YAML, whatever their words."""
    lines = [f"name: {orjson.dumps(name).decode()}", "version: 0.1.0", "principles:"]
    for entry in entries:
        fields = iter(entry.items())
        lines.append("  - {}: {}".format(*_field(*next(fields))))
        lines += ["    {}: {}".format(*_field(*pair)) for pair in fields]
    return ("\n".join(lines) + "\n").encode()


def _field(key: str, value: str) -> tuple[str, str]:
    return key, value if re.fullmatch(r"[a-z][a-z0-9-]*", value) else orjson.dumps(value).decode()
