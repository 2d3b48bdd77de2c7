"""The OpenAI wire format: requests to bodies, JSON replies to `Reply`. Pure.

Everything a server can get wrong in a reply ends as `BadReply`, which the retry loop handles; a
missing number stays None or zero as the protocol says, never a guess.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson

from rlaif.engines.protocol import Generate, Label, Reply, Usage
from rlaif.engines.traffic.outcomes import BadReply, count_of
from rlaif.engines.turns import split_reasoning
from rlaif.records import Message
from rlaif.records.tool_use import for_server, tools_of, uses_tools

Structured = Literal["response_format", "structured_outputs", "none"]

_FINISH = {"content_filter": "refusal", "refusal": "refusal"}
_CHOICE = "choice"
_FENCED = re.compile(r"\s*```[a-z]*\s*\n?(.*?)\n?\s*```\s*", re.DOTALL | re.IGNORECASE)
_THOUGHT = ("thinking", "reasoning", "thought", "redacted_thinking", "reasoning_text")


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


def read_generate(
    payload: Mapping[str, Any], *, unwrap: bool = False, stop: Sequence[str] = ()
) -> list[Reply]:
    """Return one reply per choice, in index order.

    Tokens are reported per call. The prompt is counted in the first reply; completion tokens are
    shared out by length of text, so the sum over replies is exact and each share an estimate.

    Args:
        payload: The JSON reply.
        unwrap: Whether the text should be ``{"choice": ...}``, as `_constraint` asks of
            response_format. Other text is left as it is: the server took no notice.
        stop: Strings that end the reply, where the server was not told of them.

    Raises:
        BadReply: No choices, or a choice without readable text.
    """
    choices = choices_of(payload)
    replies = []
    for choice in choices:
        text, finish, reasoning = text_of(choice)
        if unwrap and finish == "stop":
            text = _unwrap(text)
        places = [place for one in stop if (place := text.find(one)) >= 0]
        if places:
            text, finish = text[: min(places)], "stop"
        replies.append((text, finish, reasoning))
    usage = read_usage(payload)
    lengths = [len(text) + len(reasoning) for text, _, reasoning in replies]
    shares = _share(usage.completion_tokens, lengths)
    return [
        Reply(
            text=text,
            finish=finish,
            usage=Usage(
                usage.prompt_tokens if index == 0 else 0,
                share,
                usage.cached_tokens if index == 0 else 0,
            ),
            reasoning=reasoning,
        )
        for index, ((text, finish, reasoning), share) in enumerate(
            zip(replies, shares, strict=True)
        )
    ]


def read_usage(payload: Mapping[str, Any]) -> Usage:
    """Return the tokens of a call; what the server did not say is zero."""
    usage = payload.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    # The Responses API calls the same counts input and output.
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    prompt = count_of(usage.get("prompt_tokens", usage.get("input_tokens")))
    completion = count_of(usage.get("completion_tokens", usage.get("output_tokens")))
    return Usage(prompt, completion, min(count_of(cached), prompt))


def read_models(payload: Mapping[str, Any]) -> dict[str, str]:
    """Return the ids that /models lists, with who serves them (``vllm`` for vLLM).

    Raises:
        BadReply: It is not such a list.
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
    """Return the choice out of its envelope, fenced or not; the text itself if there is none."""
    fenced = _FENCED.fullmatch(text)
    try:
        value = orjson.loads(fenced[1] if fenced else text)[_CHOICE]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return text
    return value if isinstance(value, str) else text


def choices_of(payload: Mapping[str, Any]) -> list[Any]:
    """Return the choices in index order.

    Raises:
        BadReply: There are none.
    """
    choices = payload.get("choices")
    if not isinstance(choices, list) or not choices:
        raise BadReply("the reply has no choices")
    if len(choices) > 1 and all(
        isinstance(one, dict) and _is_int(one.get("index")) for one in choices
    ):
        return sorted(choices, key=lambda one: int(one["index"]))
    return choices


def text_of(choice: Any) -> tuple[str, str, str]:
    """Return text, finish and reasoning of one choice.

    Raises:
        BadReply: It has none, or is an error instead.
    """
    message = choice.get("message") if isinstance(choice, dict) else None
    finish = choice.get("finish_reason") if isinstance(choice, dict) else None
    if finish == "error" or (isinstance(choice, dict) and choice.get("error")):
        raise BadReply("a choice is an error", error=choice.get("error") or "no explanation")
    if not isinstance(message, dict):
        raise BadReply("a choice has no message")
    if finish is not None and not isinstance(finish, str):
        raise BadReply("finish_reason is not text")
    refused = message.get("refusal")
    if isinstance(refused, str) and refused:
        return refused, "refusal", ""
    content = message.get("content")
    thought = message.get("reasoning_content") or message.get("reasoning") or ""
    reasoning = thought if isinstance(thought, str) else ""
    if isinstance(content, list):
        content, inside = _of_parts(content)
        reasoning = reasoning or inside
    # null is what a server sends when nothing but reasoning, or nothing at all, was written.
    if content is not None and not isinstance(content, str):
        raise BadReply("the content of a message is not text")
    if content is None and "content" not in message and finish != "content_filter":
        raise BadReply("a message has no content")
    text, inside = split_reasoning(content or "")
    finish = _FINISH.get(finish or "", finish or "unknown")
    return text, finish, f"{reasoning}\n\n{inside}".strip() if inside else reasoning


def _of_parts(parts: Sequence[Any]) -> tuple[str, str]:
    """Return the text of content that is a list, and the reasoning in it."""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            kind = str(part.get("type", "text"))
            inside = part.get("text") or part.get(kind) or part.get("content") or ""
            text = inside if isinstance(inside, str) else "".join(_of_parts(inside))
            (thoughts if kind in _THOUGHT else texts).append(text)
        else:
            raise BadReply("a part of a message's content is not readable")
    return "".join(texts), "\n\n".join(thoughts)


def _share(total: int, lengths: Sequence[int]) -> list[int]:
    """Split ``total`` in proportion to ``lengths``; the parts sum to it exactly."""
    whole = sum(lengths) or len(lengths)
    weights = lengths if sum(lengths) else [1] * len(lengths)
    ends, run = [0], 0
    for weight in weights:
        run += weight
        ends.append(total * run // whole)
    return [end - start for start, end in itertools.pairwise(ends)]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
