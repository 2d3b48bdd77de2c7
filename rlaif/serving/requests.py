"""What trainers ask of the reward server, each in its own words, as one kind of question.

    OpenRLHF   POST /get_reward     {"query": [...], "prompts": [...], "labels": [...]}
    verl       POST /compute_score  {"data_source", "solution_str", "ground_truth", "extra_info"}
    anyone     POST /score          {"prompts": [...], "responses": [...], "tags", "references"}

Pure: parsed JSON in, questions out; nothing here knows of HTTP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from rlaif.records import Message
from rlaif.serving.texts import UnreadableQuery, parse_conversation, split_query, strip_special
from rlaif.training.scorers import conversation, text_of


class BadRequest(ValueError):  # noqa: N818 - the name HTTP has for it
    """A request that cannot be understood; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Question:
    """One response to be scored."""

    messages: list[Message]
    response: str
    tags: tuple[str, ...] = ()
    reference: str | None = None


def read_openrlhf(body: Any, special: Sequence[str] = ()) -> list[Question]:
    """Read a request of OpenRLHF's.

    ``query`` holds prompt and response as decoded, special tokens included; ``prompts`` the prompts
    as rendered. A label that is a JSON object with a ``prompt`` (`rlaif export --to
    openrlhf` writes such) is taken for the prompt, word for word, with its ``tags`` and
    ``reference``; any other text is the reference.

    Raises:
        BadRequest: Not this shape.
    """
    given = _object(body)
    queries = _texts(given, "query")
    prompts = _texts(given, "prompts", len(queries))
    labels = given.get("labels") or [None] * len(queries)
    if not isinstance(labels, list) or len(labels) != len(queries):
        raise BadRequest(f"labels: expected a list of {len(queries)}, one for each query")
    return [
        _from_query(query, prompt, label, special)
        for query, prompt, label in zip(queries, prompts, labels, strict=True)
    ]


def read_verl(body: Any) -> list[Question]:
    """Read a call of verl's ``compute_score``: one response.

    verl passes the response only, so ``extra_info`` must hold the ``prompt``, as messages or text;
    `rlaif export --to verl` writes it there. ``tags`` and ``reference`` may stand beside it;
    without a reference a ground truth that is not empty is one.

    Raises:
        BadRequest: Not this shape.
    """
    given = _object(body)
    extra = given.get("extra_info")
    if not isinstance(extra, Mapping) or not extra.get("prompt"):
        raise BadRequest(
            "extra_info: holds no 'prompt', and verl passes nothing but the response: write the "
            "prompt there (rlaif export --to verl does)"
        )
    response = given.get("solution_str")
    if not isinstance(response, str):
        raise BadRequest("solution_str: expected the text of the response")
    reference = extra.get("reference") or given.get("ground_truth") or None
    return [_question(extra["prompt"], response, extra.get("tags"), reference, "extra_info")]


def read_plain(body: Any) -> list[Question]:
    """Read a request in our own words: prompts and responses, texts or messages.

    Raises:
        BadRequest: Not this shape.
    """
    given = _object(body)
    prompts, responses = given.get("prompts"), given.get("responses")
    if not isinstance(prompts, list) or not isinstance(responses, list):
        raise BadRequest("expected two lists, 'prompts' and 'responses'")
    count = len(responses)
    columns: list[Any] = [prompts]
    for name in ("tags", "references"):
        column = given.get(name)
        columns.append([None] * count if column is None else column)
    if not all(isinstance(column, list) and len(column) == count for column in columns):
        raise BadRequest("prompts, responses, tags and references must be equally long lists")
    return [
        _question(prompt, _text(response, place), own, reference, f"prompts.{place}")
        for place, (prompt, response, own, reference) in enumerate(
            zip(columns[0], responses, columns[1], columns[2], strict=True)
        )
    ]


def _from_query(query: str, prompt: str, label: Any, special: Sequence[str]) -> Question:
    try:
        rest = split_query(query, prompt)
    except UnreadableQuery as problem:
        raise BadRequest(f"query: {problem}") from None
    response = strip_special(rest, special)
    parsed = _parsed_label(label)
    if parsed is not None:
        return _question(
            parsed["prompt"], response, parsed.get("tags"), parsed.get("reference"), "labels"
        )
    messages, started = parse_conversation(prompt, special)
    reference = label if isinstance(label, str) and label else None
    return _question(messages, started + response, None, reference, "prompts")


def _parsed_label(label: Any) -> Mapping[str, Any] | None:
    """What a label of ours says about its prompt; None for any other label."""
    if isinstance(label, str) and label.startswith("{"):
        try:
            label = orjson.loads(label)
        except orjson.JSONDecodeError:
            return None
    return label if isinstance(label, Mapping) and "prompt" in label else None


def _question(prompt: Any, response: str, tags: Any, reference: Any, where: str) -> Question:
    if not isinstance(prompt, str) and not _are_messages(prompt):
        raise BadRequest(
            f"{where}: a prompt is a text, or a list of messages, each with a role and a content"
        )
    if tags is not None and not (isinstance(tags, list) and _all_texts(tags)):
        raise BadRequest(f"{where}: tags must be a list of texts")
    if reference is not None and not isinstance(reference, str):
        reference = text_of(reference) if _are_messages(reference) else str(reference)
    return Question(conversation(prompt), response, tuple(tags or ()), reference)


def _text(response: Any, place: int) -> str:
    if isinstance(response, str) or _are_messages(response):
        return text_of(response)
    raise BadRequest(f"responses.{place}: expected a text, or messages")


def _object(body: Any) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise BadRequest("expected a JSON object")
    return body


def _texts(given: Mapping[str, Any], name: str, count: int | None = None) -> list[str]:
    value = given.get(name)
    if not isinstance(value, list) or not _all_texts(value):
        raise BadRequest(f"{name}: expected a list of texts")
    if count is not None and len(value) != count:
        raise BadRequest(f"{name}: expected {count} texts, one for each query, not {len(value)}")
    return value


def _all_texts(value: list[Any]) -> bool:
    return all(isinstance(one, str) for one in value)


def _are_messages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(one, Mapping)
            and isinstance(one.get("role"), str)
            and isinstance(one.get("content"), str)
            for one in value
        )
    )
