"""From a policy's raw text, special tokens and all, back to a conversation and a response.

OpenRLHF sends what its tokenizer decodes: the whole text, and the prompt as the chat template
rendered it. The common templates are taken apart by their turn markers. Anything else becomes one
user message without special tokens, so exact prompts are better sent as labels (see
`rlaif.serving.requests`).
"""

import re
from collections.abc import Iterator, Sequence

from rlaif.records import Message

_TURNS = (
    re.compile(r"<\|im_start\|>(\w+)\n"),  # ChatML: Qwen, SmolLM
    re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n"),  # Llama 3
    re.compile(r"<start_of_turn>(\w+)\n"),  # Gemma
    re.compile(r"<\|(system|user|assistant)\|>\n"),  # Zephyr, Phi
)
_ASKS, _ANSWERS = "[INST]", "[/INST]"  # Llama 2, Mistral
_ROLES = {"model": "assistant", "human": "user"}
_SPECIAL = (
    r"<\|[a-zA-Z0-9_]+\|>",
    r"</?s>",
    r"<(?:bos|eos|pad|unk)>",
    r"<(?:start|end)_of_turn>",
    r"\[/?INST\]",
)
_SHORTEST_TAIL = 8
"""Characters by which a prompt that was cut is still found in its query."""


class UnreadableQuery(ValueError):  # noqa: N818 - an outcome, not a program's error
    """A query that does not hold its prompt."""


def split_query(query: str, prompt: str) -> str:
    """Return what follows the prompt in a query: the response, special tokens included.

    A prompt that was cut on the left, or decoded with other white space there, is found by its end.

    Raises:
        UnreadableQuery: Even its end is not in the query.
    """
    if query.startswith(prompt):
        return query[len(prompt) :]
    low, high = 0, len(prompt)  # the longest end of the prompt that the query holds
    while low < high:
        middle = (low + high + 1) // 2
        if prompt[-middle:] in query:
            low = middle
        else:
            high = middle - 1
    if low < min(_SHORTEST_TAIL, len(prompt)):
        raise UnreadableQuery("the query does not hold its prompt, so the response is unknown")
    return query[query.index(prompt[-low:]) + low :]


def strip_special(text: str, special: Sequence[str] = ()) -> str:
    """Return a response without special tokens at its ends, nor the white space around them."""
    pattern = _pattern(special)
    first = last = 0  # of the tokens that follow one another with nothing but white space between
    for token in re.finditer(pattern, text):
        if last == 0 or text[last : token.start()].strip():
            first = token.start()
        last = token.end()
    if last and not text[last:].strip():
        text = text[:first].rstrip()
    opening = re.match(rf"(?:\s*(?:{pattern}))+", text)
    return text[opening.end() :] if opening else text


def parse_conversation(text: str, special: Sequence[str] = ()) -> tuple[list[Message], str]:
    """Take a rendered prompt apart.

    Args:
        text: What a chat template made of a conversation, with or without the assistant's header.
        special: Special tokens besides the usual ones.

    Returns:
        The messages, and what the assistant's turn had already been started with.
    """
    for turns in _TURNS:
        if turns.search(text):
            return _started(_by_turns(turns, text, special))
    if _ASKS in text:
        return _started(_by_instructions(text, special))
    plain = re.sub(_pattern(special), "", text).strip()
    return [{"role": "user", "content": plain}], ""


def _by_turns(turns: re.Pattern[str], text: str, special: Sequence[str]) -> list[Message]:
    pieces = turns.split(text)
    return [
        {"role": _ROLES.get(role, role), "content": strip_special(content, special).strip()}
        for role, content in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def _by_instructions(text: str, special: Sequence[str]) -> list[Message]:
    messages: list[Message] = []
    for instruction, answer in _instructions(text):
        system = re.match(r"\s*<<SYS>>(.*?)<</SYS>>(.*)", instruction, re.DOTALL)
        if system is not None:
            messages.append({"role": "system", "content": system[1].strip()})
            instruction = system[2]
        messages.append({"role": "user", "content": instruction.strip()})
        messages.append({"role": "assistant", "content": strip_special(answer, special).strip()})
    return messages


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield what stands between the markers, and what follows up to the next bracket."""
    end = 0
    while (start := text.find(_ASKS, end)) >= 0 and (stop := text.find(_ANSWERS, start)) >= 0:
        answer = stop + len(_ANSWERS)
        following = text.find("[", answer)
        end = len(text) if following < 0 else following
        yield text[start + len(_ASKS) : stop], text[answer:end]


def _started(messages: list[Message]) -> tuple[list[Message], str]:
    if messages and messages[-1]["role"] == "assistant":
        return messages[:-1], messages[-1]["content"]
    return messages, ""


def _pattern(special: Sequence[str]) -> str:
    longest_first = sorted((re.escape(token) for token in special), key=len, reverse=True)
    return "|".join([*longest_first, *_SPECIAL])
