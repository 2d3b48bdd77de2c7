"""OpenAI's Responses API, for models that have no chat completions: to it and back. Pure.

A chat completion's body becomes a request, and the answer a chat completion's reply, so that
everything else reads one form. There is no seed, no n and no stop.
"""

from collections.abc import Mapping, Sequence
from typing import Any

RESPONSES = "/responses"
MISSING = ("seed", "n", "stop")
_FEWEST_TOKENS = 16
_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}


def body_of(chat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request that asks what a chat completion's body asks."""
    body = dict(chat)
    body["input"] = [item for message in body.pop("messages") for item in _items_of(message)]
    if "tools" in body:
        body["tools"] = [_flat(tool) for tool in body["tools"]]
    if isinstance(body.get("tool_choice"), dict):
        body["tool_choice"] = _flat(body["tool_choice"])
    body["store"] = False
    for name in MISSING:
        body.pop(name, None)
    limits = [body.pop(name, 0) for name in ("max_tokens", "max_completion_tokens")]
    if any(limits):
        body["max_output_tokens"] = max(*limits, _FEWEST_TOKENS)
    if body.pop("logprobs", False):
        body["include"] = ["message.output_text.logprobs"]
    form = body.pop("response_format", None)
    if form is not None:
        schema = form.get("json_schema", {})
        body["text"] = {"format": {"type": form["type"], **schema}}
    return body


def _items_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what stands for one message: what it says, and every call and result by itself."""
    if message["role"] == "tool":
        call_id, output = message.get("tool_call_id", ""), message["content"] or ""
        return [{"type": "function_call_output", "call_id": call_id, "output": output}]
    calls = [
        {"type": "function_call", "call_id": call["id"], **call["function"]}
        for call in message.get("tool_calls", ())
    ]
    if calls and not message["content"]:
        return calls
    return [{"role": message["role"], "content": message["content"]}, *calls]


def _flat(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition or choice of a function with its fields beside the type."""
    given = dict(tool)
    function = given.pop("function", None)
    flat = given | function if isinstance(function, dict) else given
    flat.setdefault("type", "function")
    if flat["type"] == "function" and "parameters" in flat:
        flat.setdefault("strict", False)  # the default of chat completions; here it is true
    return flat


def chat_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reply as a chat completion; what is missing stays missing."""
    output = payload.get("output")
    items = output if isinstance(output, list) else []
    message, logprobs = _message_of(items)
    status = payload.get("status")
    details = payload.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    finish = _REASONS.get(str(reason), "stop" if status == "completed" else str(status))
    if "tool_calls" in message and finish == "stop":
        finish = "tool_calls"
    if status == "failed" and not message["content"]:
        message["content"] = None
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish}
    if logprobs:
        choice["logprobs"] = {"content": logprobs}
    if status == "failed":
        choice["error"] = payload.get("error") or "the response failed"
    return {"choices": [choice] if isinstance(output, list) else [], "usage": payload.get("usage")}


def _message_of(output: Sequence[Any]) -> tuple[dict[str, Any], list[Any]]:
    """Return the message that the items of a reply make, and its log-probabilities."""
    message: dict[str, Any] = {}
    texts: list[str] = []
    thoughts: list[str] = []
    logprobs: list[Any] = []
    for item in (one for one in output if isinstance(one, dict)):
        if item.get("type") == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            message.setdefault("tool_calls", []).append(call)
        parts = item.get("content")
        for part in parts if isinstance(parts, list) else []:
            if not isinstance(part, dict):
                continue
            match part.get("type"):
                case "output_text":
                    texts.append(str(part.get("text") or ""))
                    spoken = part.get("logprobs")
                    logprobs += spoken if isinstance(spoken, list) else []
                case "refusal":
                    message["refusal"] = part.get("refusal")
                case "reasoning_text":
                    thoughts.append(str(part.get("text") or ""))
                case _:
                    pass
    message["content"] = "".join(texts)
    if thoughts:
        message["reasoning"] = "\n\n".join(thoughts)
    return message, logprobs
