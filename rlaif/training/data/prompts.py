"""Prompts as the policy reads them, and which of them each rollout asks.

A prompt stays a conversation: it is rendered with the policy's own chat template here, and what
the scorer gets is the conversation again, not the rendered text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlaif.errors import InputError
from rlaif.records import Message, Prompt, content_id, content_seed
from rlaif.training.data.chat import ToolsLeftOut, has_tools, render_chat

AnyPrompt = Prompt | str | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """One response that a rollout asks for."""

    prompt: Prompt
    tokens: tuple[int, ...]
    seed: int
    """Belongs to the prompt and to how often it was asked before, not to place or process."""

    @property
    def messages(self) -> list[Message]:
        """The conversation."""
        return list(self.prompt.messages)


@dataclass(frozen=True, slots=True)
class PromptSet:
    """All prompts of a training, tokenised."""

    prompts: tuple[Prompt, ...]
    tokens: tuple[tuple[int, ...], ...]
    too_long: int
    """How many prompts were left out because prompt and response would not fit."""

    with_tools: int = 0
    """How many were left out because their tools cannot be carried."""

    @property
    def fingerprint(self) -> str:
        """Hash of the prompts' ids and tokens, in order."""
        return content_id("prompts", [prompt.id for prompt in self.prompts], self.tokens)

    def ask(self, rollout: int, *, size: int, per_prompt: int, seed: int) -> list[ResponseRequest]:
        """Return what one rollout asks: ``size`` responses, ``per_prompt`` of each prompt.

        Prompts come in passes, each in its own order; a prompt is asked again only when all
        have been asked equally often.
        """
        first = rollout * (size // per_prompt)
        requests: list[ResponseRequest] = []
        orders: dict[int, list[int]] = {}
        for place in range(first, first + size // per_prompt):
            lap, position = divmod(place, len(self.prompts))
            if lap not in orders:
                orders[lap] = self._order(lap, seed)
            index = orders[lap][position]
            prompt, tokens = self.prompts[index], self.tokens[index]
            requests.extend(
                ResponseRequest(
                    prompt, tokens, content_seed(seed, "response", prompt.id, lap, sample)
                )
                for sample in range(per_prompt)
            )
        return requests

    def _order(self, lap: int, seed: int) -> list[int]:
        generator = torch.Generator()
        generator.manual_seed(content_seed(seed, "prompts", lap))
        return [int(i) for i in torch.randperm(len(self.prompts), generator=generator)]


def read_prompt_set(
    prompts: Sequence[AnyPrompt],
    tokenizer: Any,
    *,
    context: int | None,
    max_new_tokens: int,
    max_prompt_tokens: int | None = None,
    tools: bool = True,
) -> PromptSet:
    """Render and tokenise prompts; those that leave no room for a response are left out, counted.

    Args:
        prompts: Records, strings (one user turn) or lists of messages.
        tokenizer: The policy's, with a chat template.
        context: Positions the policy has; None where it does not say.
        max_new_tokens: Room that a response needs.
        max_prompt_tokens: A lower bound than the context, if wanted.
        tools: Whether the trainer carries conversations with tools.

    Raises:
        InputError: No prompts, one that is invalid or that the chat template refuses, none that
            fits, or no chat template.
    """
    if tokenizer.chat_template is None:
        raise InputError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template, and prompts are "
            "conversations",
            hint="set chat_template to chatml or to a .jinja file",
        )
    if context is not None and max_new_tokens >= context:
        raise InputError(
            f"max_new_tokens {max_new_tokens} leaves no room for a prompt in a context of {context}"
        )
    room = min(
        context - max_new_tokens if context is not None else 2**31, max_prompt_tokens or 2**31
    )
    records = _records(prompts)
    kept: list[Prompt] = []
    tokens: list[tuple[int, ...]] = []
    with_tools = 0
    for record in records:
        try:
            if not tools and has_tools(record.messages):
                raise ToolsLeftOut("the trainer carries no tools")
            text = render_chat(tokenizer, record.messages, opened=True)
        except ToolsLeftOut:
            with_tools += 1
            continue
        ids = tuple(tokenizer(text, add_special_tokens=False).input_ids)
        if 0 < len(ids) <= room:
            kept.append(record)
            tokens.append(ids)
    if not kept and with_tools:
        raise InputError(
            f"none of the {len(records)} prompts can be used: {with_tools} have tools that the"
            " trainer or the chat template does not support, and the others are too long"
        )
    if not kept:
        raise InputError(
            f"none of the {len(records)} prompts fits: prompt and response have "
            f"{room + max_new_tokens} tokens, the response {max_new_tokens} of them"
            if records
            else "no prompts",
            hint="lower max_new_tokens, or raise max_prompt_tokens" if records else "",
        )
    return PromptSet(tuple(kept), tuple(tokens), len(records) - len(kept) - with_tools, with_tools)


def stop_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return every token that ends a response: the tokenizer's and the checkpoint's own.

    Raises:
        InputError: There is none, so nothing would ever end.
    """
    declared = getattr(model.generation_config, "eos_token_id", None)
    listed = declared if isinstance(declared, list | tuple) else [declared]
    tokens = {int(token) for token in (*listed, tokenizer.eos_token_id) if token is not None}
    if not tokens:
        raise InputError(f"{tokenizer.name_or_path}: neither model nor tokenizer has a stop token")
    return tuple(sorted(tokens))


def _records(prompts: Sequence[AnyPrompt]) -> list[Prompt]:
    records: list[Prompt] = []
    for number, prompt in enumerate(prompts, start=1):
        if isinstance(prompt, Prompt):
            records.append(prompt)
            continue
        try:
            records.append(Prompt.build(prompt))
        except ValueError as problem:
            raise InputError(f"prompt {number}: {problem}") from None
    return records
