"""OpenAI's Responses API, for models that have no chat completions: to it and back. Pure.

A chat completion's body becomes a request, and the answer a chat completion's reply, so that
everything else reads one form. There is no seed, no n and no stop.
"""

from collections.abc import Mapping
from typing import Any

RESPONSES = "/responses"
MISSING = ("seed", "n", "stop")
_FEWEST_TOKENS = 16
_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}


def body_of(chat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request that asks what a chat completion's body asks."""
    body = dict(chat)
    body["input"] = body.pop("messages")
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


def chat_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reply as a chat completion; what is missing stays missing."""
    message: dict[str, Any] = {}
    logprobs: list[Any] = []
    output = payload.get("output")
    texts, thoughts = [], []
    for item in output if isinstance(output, list) else []:
        parts = item.get("content") if isinstance(item, dict) else None
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
    status = payload.get("status")
    details = payload.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    finish = _REASONS.get(str(reason), "stop" if status == "completed" else str(status))
    message |= {"content": "".join(texts) if texts or status != "failed" else None}
    if thoughts:
        message["reasoning"] = "\n\n".join(thoughts)
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish}
    if logprobs:
        choice["logprobs"] = {"content": logprobs}
    if status == "failed":
        choice["error"] = payload.get("error") or "the response failed"
    known = isinstance(output, list)
    return {"choices": [choice] if known else [], "usage": payload.get("usage")}
