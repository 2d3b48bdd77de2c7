"""The tokens with which a chat template ends an assistant's turn: where a reply stops."""

from collections.abc import Callable, Sequence
from typing import Any

from rlaif.errors import RlaifError
from rlaif.records import Message

_MARK = "reply"
_REPLY: Message = {"role": "assistant", "content": _MARK}
_CALL: Message = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": _MARK, "arguments": "{}"}}],
}
_TOOL = f'[{{"type": "function", "function": {{"name": "{_MARK}", "parameters": {{}}}}}}]'


def turn_ends(tokenizer: Any, render: Callable[[Sequence[Message]], str]) -> tuple[int, ...]:
    """Return the tokens that the template puts after a reply, and after a call of a tool.

    After a reply this is the first token, white space aside, if it was added to the vocabulary or
    ends sequences; else the first special token. After a call it is the same token, where that
    follows; else the first special one. Empty where a turn ends in ordinary text or nothing.

    Args:
        tokenizer: A transformers tokenizer with a chat template.
        render: From a conversation to its text, with no turn opened at the end.

    Raises:
        RlaifError: From ``render``: the template does not take a plain exchange.
    """
    ids = _ids_after(tokenizer, render([{"role": "user", "content": "?"}, _REPLY]))
    unknown = {tokenizer.unk_token_id} - {tokenizer.eos_token_id}
    added = {i: t for i, t in tokenizer.added_tokens_decoder.items() if i not in unknown}
    special = {i for i, token in added.items() if token.special} | {tokenizer.eos_token_id}
    first = next((i for i in ids if tokenizer.decode([i]).strip()), None)
    known = first in added or first in special
    end = first if known else next((i for i in ids if i in special), None)
    ends = () if end is None else (end,)
    try:
        called = render([{"role": "user", "content": "?", "tools": _TOOL}, _CALL])
    except RlaifError:
        return ends  # a template without tools
    ids = _ids_after(tokenizer, called)
    if set(ends) & set(ids):
        return ends
    return (*ends, *[i for i in ids if i in special][:1])


def _ids_after(tokenizer: Any, rendered: str) -> list[int]:
    after = rendered.rpartition(_MARK)[2]
    return list(tokenizer(after, add_special_tokens=False)["input_ids"]) if after else []
