"""The wire format of OpenAI's files and batches: lines and objects to values. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from rlaif.engines.traffic.outcomes import BadReply
from rlaif.engines.traffic.transport import Answer

ENDPOINT = "/v1/chat/completions"
"""Written in every request and batch, whatever the base_url."""

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
UNFINISHED = ("batch_expired", "batch_cancelled")
"""Codes of requests that were not begun: neither answered nor paid."""

NO_ROOM = ("token_limit_exceeded", "enqueued_token_limit_exceeded")

NAME = "rlaif_batch"
"""The key under which a batch carries its name, so that it is found again."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a batch that failed before anything was run."""

    code: str
    words: str
    line: int | None
    """Which request is to blame, from 1; None when it is not a single one."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the server reports it."""

    id: str
    status: str
    name: str
    files: tuple[str, ...]
    """Ids of the files with results: of answered requests, and of those that failed."""

    problems: tuple[Problem, ...]
    done: int
    """Requests that are answered or failed so far."""

    created: float
    """Unix seconds; 0 when the server does not say."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ENDED

    @property
    def no_room(self) -> bool:
        """Whether it failed because too much is queued already: later it may be taken."""
        return self.status == "failed" and any(one.code in NO_ROOM for one in self.problems)


def request_line(custom_id: str, body: Mapping[str, Any]) -> bytes:
    """Return one line of the file, with its end.

    Raises:
        TypeError: The body is not valid JSON.
    """
    line = {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def batch_body(file_id: str, name: str, run: str, window: str) -> dict[str, Any]:
    """Return the body that starts a batch over an uploaded file."""
    return {
        "input_file_id": file_id,
        "endpoint": ENDPOINT,
        "completion_window": window,
        "metadata": {NAME: name, "rlaif_run": run},
    }


def read_file(payload: Mapping[str, Any]) -> str:
    """Return the id of an uploaded file.

    Raises:
        BadReply: There is none.
    """
    return _text(payload, "id")


def read_batch(payload: Mapping[str, Any]) -> Batch:
    """Return a batch.

    Raises:
        BadReply: Id or status is missing.
    """
    files = (payload.get("output_file_id"), payload.get("error_file_id"))
    counts = _object(payload, "request_counts")
    metadata = _object(payload, "metadata")
    created = payload.get("created_at")
    return Batch(
        id=_text(payload, "id"),
        status=_text(payload, "status"),
        name=str(metadata.get(NAME, "")),
        files=tuple(one for one in files if isinstance(one, str) and one),
        problems=tuple(_problem(one) for one in _list(_object(payload, "errors"))),
        done=_count(counts.get("completed")) + _count(counts.get("failed")),
        created=float(created) if isinstance(created, int | float) else 0.0,
    )


def read_batches(payload: Mapping[str, Any]) -> tuple[Sequence[Batch], bool]:
    """Return one page of the list of batches, newest first, and whether there are more.

    Raises:
        BadReply: It is not such a list.
    """
    if not isinstance(payload.get("data"), list):
        raise BadReply("the list of batches has no data")
    return [read_batch(one) for one in _list(payload)], payload.get("has_more") is True


def read_result(line: bytes) -> tuple[str, Answer | None]:
    """Return one line of a file of results: whose it is, and the answer as a single call has it.

    The answer is None for a request that was not begun before the batch ended. The id is empty
    when the line cannot be read.
    """
    try:
        found = orjson.loads(line)
        custom_id = found["custom_id"]
        response, error = found.get("response"), found.get("error")
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        return "", None
    if not isinstance(custom_id, str):
        return "", None
    if isinstance(response, dict) and isinstance(response.get("status_code"), int):
        body = orjson.dumps(response.get("body"))
        return custom_id, Answer(response["status_code"], {}, body)
    if not isinstance(error, dict) or error.get("code") in UNFINISHED:
        return custom_id, None
    return custom_id, Answer(500, {}, orjson.dumps({"error": error}))


def _problem(error: Mapping[str, Any]) -> Problem:
    line = error.get("line")
    return Problem(
        str(error.get("code") or ""),
        str(error.get("message") or "no explanation"),
        line if isinstance(line, int) else None,
    )


def _object(payload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = payload.get(name)
    return value if isinstance(value, dict) else {}


def _list(payload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    data = payload.get("data")
    return [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not value:
        raise BadReply(f"the reply has no {name}")
    return value


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
