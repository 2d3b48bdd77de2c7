"""Tokenizers made ready for training: a chat template where there is none, and a pad token.

A policy is trained on conversations, so its tokenizer must know how a conversation looks. Base
models come without a template; the built-in one needs no new tokens, hence no resized embeddings:
role markers are ordinary text where the vocabulary lacks them, and every turn ends with the
tokenizer's own end-of-sequence token, so generation stops by itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaif.errors import InputError
from rlaif.models import turn_ends
from rlaif.records import Message
from rlaif.records.tool_use import for_template, left_out

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_BARE = (
    "{% if messages | length > 2 %}"
    "{{ raise_exception('chat_template is none: one prompt and one reply') }}{% endif %}"
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    "{% if not add_generation_prompt and not messages[-1]['content'].endswith(eos_token) %}"
    "{{ eos_token }}{% endif %}"
)

TEMPLATES = {"chatml": _CHATML}
"""Built-in chat templates by name."""

NO_TEMPLATE = "none"
"""As ``chat_template``: bare text. It is a template too, of prompt, reply and end of sequence, so
that whatever reads the checkpoint (a scorer, an engine) renders what was trained on."""

_PAD_NAMES = (
    "<|finetune_right_pad_id|>",
    "<pad>",
    "<|pad|>",
    "[PAD]",
    "<|endoftext|>",
    "<|reserved_special_token_0|>",
)


def set_chat_template(tokenizer: "PreTrainedTokenizerBase", wanted: str | None) -> None:
    """Give the tokenizer a chat template; it is saved with the tokenizer.

    Args:
        tokenizer: Changed in place.
        wanted: A built-in name, the path of a Jinja file, ``none`` (bare text), or None to keep
            the tokenizer's own.

    Raises:
        InputError: The tokenizer has no template and none is wanted, or no such template exists.
    """
    if wanted == NO_TEMPLATE:
        tokenizer.chat_template = _start_token(tokenizer, unless_written=True) + _BARE
        return
    if wanted is None:
        if tokenizer.chat_template is None:
            raise InputError(
                f"{tokenizer.name_or_path}: the tokenizer has no chat template",
                hint="set chat_template to chatml, to a .jinja file, or to none for plain strings",
            )
        return
    if wanted in TEMPLATES:
        tokenizer.chat_template = _start_token(tokenizer) + TEMPLATES[wanted]
        return
    path = Path(wanted)
    if not path.is_file():
        raise InputError(
            f"chat_template {wanted!r} not found: not a built-in name or a file",
            hint=f"built-in: {', '.join(sorted(TEMPLATES))}, none",
        )
    tokenizer.chat_template = path.read_text(encoding="utf-8")


def set_pad_token(
    tokenizer: "PreTrainedTokenizerBase", *, add: bool = False, below: int | None = None
) -> bool:
    """Choose a pad token that is not the end-of-sequence token, where the vocabulary has one.

    Padding that looks like the end of a reply makes masks by token equality wrong. Our own code
    masks by length throughout, so this protects other readers of the checkpoint.

    Args:
        tokenizer: Changed in place.
        add: Add ``<|pad|>`` to the vocabulary when nothing in it can serve. Scorers need this:
            transformers finds the last token of a sequence by comparing with the pad token.
        below: Rows of the model's embeddings: a pad token beyond them cannot be read.

    Returns:
        Whether the vocabulary grew, so that embeddings must be resized.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise InputError(
            f"{tokenizer.name_or_path}: the tokenizer has no end-of-sequence token",
            hint="a policy needs one to learn where a response ends",
        )
    own = tokenizer.pad_token_id
    if own is not None and own != eos and (below is None or own < below):
        return False
    vocabulary = {
        name: number
        for name, number in tokenizer.get_vocab().items()
        if below is None or number < below
    }
    template = str(tokenizer.chat_template or "")
    unknown = tokenizer.unk_token
    for name in (*_PAD_NAMES, *([unknown] if isinstance(unknown, str) else [])):
        if name in vocabulary and vocabulary[name] != eos and name not in template:
            tokenizer.pad_token = name
            return False
    if add:
        return bool(tokenizer.add_special_tokens({"pad_token": "<|pad|>"}))
    tokenizer.pad_token = tokenizer.eos_token
    return False


def check_vocabulary(tokenizer: Any, largest: int, size: int | None) -> None:
    """Make sure that the model has an embedding for every token.

    Args:
        tokenizer: The model's.
        largest: The largest number among the tokens.
        size: Rows of the embeddings; None where that is not known.

    Raises:
        InputError: It has not.
    """
    if size is not None and largest >= size:
        raise InputError(
            f"{tokenizer.name_or_path}: the token {tokenizer.convert_ids_to_tokens(largest)!r} has"
            f" the number {largest}, but the model knows only the first {size}",
            hint="give it embeddings (resize_token_embeddings, then save_pretrained), or set"
            " chat_template to one without it",
        )


def end_tokens(tokenizer: Any, *, needed: bool = True) -> tuple[int, ...]:
    """Return the tokens that end an assistant's turn, as the chat template puts them.

    Args:
        tokenizer: With a chat template.
        needed: Whether to refuse a template that has none.

    Raises:
        InputError: There is none, so that a policy would learn to go on for ever.
    """
    ends = turn_ends(tokenizer, lambda messages: render_chat(tokenizer, messages, opened=False))
    if needed and not ends:
        raise InputError(
            f"{tokenizer.name_or_path}: the chat template ends an assistant's turn without a token"
            " of its own: nothing would teach the policy to stop",
            hint="set chat_template to chatml, or to a .jinja file that writes {{ eos_token }}"
            " after each of the assistant's turns",
        )
    return ends


class ToolsLeftOut(InputError):  # noqa: N818 - reads like its siblings in rlaif.errors
    """A chat template that does not support the tools of a conversation."""


def has_tools(messages: Sequence[Message]) -> bool:
    """Whether a conversation defines or calls tools, or holds their results."""
    return any(
        "tools" in message or "tool_calls" in message or message["role"] == "tool"
        for message in messages
    )


def render_chat(tokenizer: Any, messages: Sequence[Message], *, opened: bool) -> str:
    """Render a conversation; ``opened`` adds the start of an assistant turn.

    Raises:
        ToolsLeftOut: The template refuses its tools, or passes over them.
        InputError: The template refuses it, as some do with a system message.
    """
    turns, tools = for_template(messages)
    try:
        text = tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            add_generation_prompt=opened,
            **({} if tools is None else {"tools": tools}),
        )
    except Exception as problem:
        first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        refused = ToolsLeftOut if has_tools(messages) else InputError
        raise refused(
            f"the chat template refuses the conversation that starts with the {_start(messages)}:"
            f" {first}",
            hint="leave such rows out, or set chat_template",
        ) from problem
    if lost := left_out(messages, str(text)):
        raise ToolsLeftOut(
            f"the chat template leaves out the tool {lost!r}",
            hint="choose a model whose chat template supports tools",
        )
    return str(text)


def _start(messages: Sequence[Message]) -> str:
    first: Message = messages[0] if messages else {"role": "", "content": ""}
    return f"{first['role']} message {first['content']!r:.60}"


def _start_token(tokenizer: "PreTrainedTokenizerBase", *, unless_written: bool = False) -> str:
    """The part of a template that writes the start token, for tokenizers that always add one.

    Templates are tokenised without special tokens, so it would be missing otherwise.
    ``unless_written``: not where the first message starts with it already.
    """
    ids = tokenizer("a").input_ids
    if not ids or ids[0] not in (tokenizer.bos_token_id, tokenizer.cls_token_id):
        return ""
    name = "bos_token" if ids[0] == tokenizer.bos_token_id else "cls_token"
    if not unless_written:
        return f"{{{{ {name} }}}}"
    written = f"messages[0]['content'].startswith({name})"
    return f"{{% if not {written} %}}{{{{ {name} }}}}{{% endif %}}"
