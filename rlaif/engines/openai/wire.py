"""The OpenAI wire format: requests to bodies, JSON replies to `Reply`. Pure.

Everything a server can get wrong in a reply ends as `BadReply`, which the retry loop handles; a
missing number stays None or zero as the protocol says, never a guess.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson

from rlaif.engines.protocol import Generate, Label, Reply, Usage, log_sum
from rlaif.engines.traffic.outcomes import BadReply
from rlaif.records import Message
from rlaif.records.tool_use import for_server, tools_of, uses_tools

Structured = Literal["response_format", "structured_outputs", "none"]

_FINISH = {"content_filter": "refusal", "refusal": "refusal"}
_CHOICE = "choice"


def generate_body(
    request: Generate, seeds: Sequence[int], *, structured: Structured, max_tokens_field: str
) -> dict[str, Any]:
    """Return the body of a chat completion that draws one sample per seed in a single call.

    Servers take one seed per call; the first one stands for all (vLLM counts up from it).
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        **conversation(request.messages),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        max_tokens_field: sampling.max_tokens,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if seeds:
        body["seed"] = seeds[0]
    if request.stub:
        body |= prefilled(request.messages, request.stub)
    if request.choices or request.schema:
        body |= _constraint(request, structured)
    return body | dict(sampling.extra)


def label_body(request: Label, *, max_tokens_field: str, top_logprobs: int) -> dict[str, Any]:
    """Return the body that asks for the log-probabilities of the first token of the reply."""
    body: dict[str, Any] = {
        **conversation(request.messages),
        "temperature": 0.0,
        "top_p": 1.0,
        max_tokens_field: 1,
        "logprobs": True,
        "top_logprobs": top_logprobs,
    }
    return body | prefilled(request.messages, request.stub) if request.stub else body


def conversation(messages: Sequence[Message]) -> dict[str, Any]:
    """Return the fields that hold a conversation and its tools; the reply is to be text."""
    if not uses_tools(messages):
        return {"messages": messages}
    tools = tools_of(messages)
    chosen = {} if tools is None else {"tools": tools, "tool_choice": "none"}
    return {"messages": for_server(messages), **chosen}


def prefilled(messages: Sequence[Message], stub: str) -> dict[str, Any]:
    """Return the fields by which vLLM and SGLang let the caller start the reply."""
    return {
        "messages": [*for_server(messages), {"role": "assistant", "content": stub}],
        "add_generation_prompt": False,
        "continue_final_message": True,
    }


def read_generate(payload: Mapping[str, Any], *, unwrap: bool) -> list[Reply]:
    """Return one reply per choice, in index order.

    Tokens are reported per call. The prompt is counted in the first reply; completion tokens are
    shared out by length of text, so the sum over replies is exact and each share an estimate.

    Args:
        payload: The JSON reply.
        unwrap: Whether the text is ``{"choice": ...}``, as `_constraint` asks of response_format.

    Raises:
        BadReply: No choices, or a choice without readable text.
    """
    choices = _choices(payload)
    replies = []
    for choice in choices:
        text, finish = _text(choice)
        if unwrap and finish == "stop":
            text = _unwrap(text)
        replies.append((text, finish))
    usage = read_usage(payload)
    shares = _share(usage.completion_tokens, [len(text) for text, _ in replies])
    return [
        Reply(
            text=text,
            finish=finish,
            usage=Usage(
                usage.prompt_tokens if index == 0 else 0,
                share,
                usage.cached_tokens if index == 0 else 0,
            ),
        )
        for index, ((text, finish), share) in enumerate(zip(replies, shares, strict=True))
    ]


def read_label(payload: Mapping[str, Any], labels: Sequence[str]) -> Reply:
    """Return the log-probability of each label among the reported next tokens.

    A token counts for a label when it equals it without surrounding white space. A label none of
    whose tokens was reported is None: it is less likely than those, but how likely is unknown.

    Raises:
        BadReply: No log-probabilities, or unreadable ones.
    """
    return _read_first_token(payload, [_spelled(label) for label in labels])


def read_label_ids(payload: Mapping[str, Any], ids: Sequence[Sequence[int]]) -> Reply | None:
    """Return the log-probability of each label from the exact values of its token ids.

    Returns:
        None when the server ignored ``logprob_token_ids`` and reported something else.

    Raises:
        BadReply: No log-probabilities, or unreadable ones.
    """
    named = [frozenset(f"token_id:{value}" for value in values) for values in ids]
    refused = _text(_choices(payload)[0])[1] == "refusal"
    if not refused:
        reported = {token for token, _ in _first_token(payload)}
        if not all(values <= reported for values in named):
            return None
    return _read_first_token(payload, [values.__contains__ for values in named])


def read_usage(payload: Mapping[str, Any]) -> Usage:
    """Return the tokens of a call; what the server did not say is zero."""
    usage = payload.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    prompt = _count(usage.get("prompt_tokens"))
    return Usage(prompt, _count(usage.get("completion_tokens")), min(_count(cached), prompt))


def read_models(payload: Mapping[str, Any]) -> dict[str, str]:
    """Return the ids that /models lists, with who serves them (``vllm`` for vLLM).

    Raises:
        BadReply: It is no such list.
    """
    data = payload.get("data")
    if not isinstance(data, list):
        raise BadReply("/models returned no list")
    entries = [one for one in data if isinstance(one, dict) and isinstance(one.get("id"), str)]
    return {one["id"]: str(one.get("owned_by", "")) for one in entries}


def refusal(count: int, labels: int = 0) -> list[Reply]:
    """Return replies for a prompt that the server's own filter did not let through."""
    return [Reply(finish="refusal", label_logprobs=(None,) * labels)] * count


def _constraint(request: Generate, structured: Structured) -> dict[str, Any]:
    if structured == "structured_outputs":
        if request.choices:
            return {"structured_outputs": {"choice": list(request.choices)}}
        return {"structured_outputs": {"json": orjson.loads(request.schema)}}
    schema = orjson.loads(request.schema) if request.schema else _one_of(request.choices)
    form = {"name": "reply", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


def _one_of(choices: Sequence[str]) -> dict[str, Any]:
    """Return a schema for one of the choices; an object, because servers allow no bare string."""
    return {
        "type": "object",
        "properties": {_CHOICE: {"type": "string", "enum": list(choices)}},
        "required": [_CHOICE],
        "additionalProperties": False,
    }


def _unwrap(text: str) -> str:
    try:
        value = orjson.loads(text)[_CHOICE]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        raise BadReply("the reply does not follow its schema") from None
    if not isinstance(value, str):
        raise BadReply("the reply does not follow its schema")
    return value


def _choices(payload: Mapping[str, Any]) -> list[Any]:
    choices = payload.get("choices")
    if not isinstance(choices, list) or not choices:
        error = payload.get("error")
        words = f": {str(error)[:200]}" if error else ""
        raise BadReply(f"the reply has no choices{words}")
    if len(choices) > 1 and all(
        isinstance(one, dict) and _is_int(one.get("index")) for one in choices
    ):
        return sorted(choices, key=lambda one: int(one["index"]))
    return choices


def _text(choice: Any) -> tuple[str, str]:
    """Return text and finish of one choice."""
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise BadReply("a choice has no message")
    finish = choice.get("finish_reason")
    if finish is not None and not isinstance(finish, str):
        raise BadReply("finish_reason is not text")
    refused = message.get("refusal")
    if isinstance(refused, str) and refused:
        return refused, "refusal"
    content = message.get("content")
    # null is what a server sends when nothing but reasoning, or nothing at all, was written.
    if content is not None and not isinstance(content, str):
        raise BadReply("the content of a message is not text")
    if content is None and "content" not in message and finish != "content_filter":
        raise BadReply("a message has no content")
    return content or "", _FINISH.get(finish or "", finish or "unknown")


def _first_token(payload: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the reported candidates for the first token with their log-probabilities."""
    logprobs = _choices(payload)[0].get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        raise BadReply("the reply has no log-probabilities")
    top = content[0].get("top_logprobs")
    candidates = [content[0], *top] if isinstance(top, list) else [content[0]]
    # The chosen token is reported apart and again among the candidates. Two tokens may look alike
    # (vLLM shows both spellings of SentencePiece without the space) but differ in value.
    found: dict[tuple[str, float], None] = {}
    for candidate in candidates:
        token = candidate.get("token") if isinstance(candidate, dict) else None
        value = candidate.get("logprob") if isinstance(candidate, dict) else None
        if not isinstance(token, str) or isinstance(value, bool):
            raise BadReply("a log-probability has no token")
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise BadReply("a log-probability is not a number")
        found[token, float(value)] = None
    return list(found)


def _read_first_token(payload: Mapping[str, Any], matches: Sequence[Any]) -> Reply:
    text, finish = _text(_choices(payload)[0])
    usage = read_usage(payload)
    if finish == "refusal":
        return Reply(text, finish, (None,) * len(matches), usage=usage)
    candidates = _first_token(payload)
    values = tuple(
        log_sum([value for token, value in candidates if match(token)]) for match in matches
    )
    return Reply(text, finish, values, usage=usage)


def _spelled(label: str) -> Any:
    def matches(token: str) -> bool:
        return token.strip() == label

    return matches


def _share(total: int, lengths: Sequence[int]) -> list[int]:
    """Split ``total`` in proportion to ``lengths``; the parts sum to it exactly."""
    whole = sum(lengths) or len(lengths)
    weights = lengths if sum(lengths) else [1] * len(lengths)
    ends, run = [0], 0
    for weight in weights:
        run += weight
        ends.append(total * run // whole)
    return [end - start for start, end in itertools.pairwise(ends)]


def _count(value: Any) -> int:
    return value if _is_int(value) and value > 0 else 0


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
