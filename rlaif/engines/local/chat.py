"""Between messages and tokens: the chat template, prompt and continuation, labels, ends of turn."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jinja2

from rlaif.engines.turns import fold_system
from rlaif.errors import CallFailed
from rlaif.models.turns import turn_ends
from rlaif.records import Message
from rlaif.records.tool_use import for_template, left_out

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Chat:
    """A tokenizer with its chat template.

    Args:
        tokenizer: It must have a chat template.
        variables: Given to the template beside the messages.
        context: Most tokens of prompt and reply together; None when the model has no limit.
        fold: Whether system text goes to the head of the first user turn.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        variables: Mapping[str, Any] | None = None,
        context: int | None = None,
        fold: bool = False,
    ) -> None:
        self._tokenizer: Any = tokenizer
        self._variables = dict(variables or {})
        self._labels: dict[str, tuple[int, ...]] = {}
        self.context = context
        self._fold = fold

    def prompt_ids(self, messages: Sequence[Message], stub: str = "") -> list[int]:
        """Return the tokens up to where the assistant's reply starts, or continues after ``stub``.

        Raises:
            CallFailed: The template does not take these messages, or they are too long for a
                reply of even one token.
        """
        return self._fit(self._encode(self._render(messages) + stub), reply=1)

    def score_ids(
        self, messages: Sequence[Message], continuation: str
    ) -> tuple[list[int], list[int]]:
        """Return the prompt's tokens and the continuation's.

        Both are tokenised as one text, as the model would see them. Where a token would reach over
        the boundary they are tokenised apart, so that the prompt is always the prompt alone. The
        end of the turn is not part of the continuation.

        Raises:
            CallFailed: An empty continuation, a template that does not take these messages, or
                too many tokens.
        """
        if not continuation:
            raise CallFailed("the continuation is empty: there is nothing to score", kind="empty")
        text = self._render(messages)
        prompt, together = self._encode(text), self._encode(text + continuation)
        whole = together[: len(prompt)] == prompt and len(together) > len(prompt)
        scored = together[len(prompt) :] if whole else self._encode(continuation)
        self._fit(prompt, reply=len(scored))
        return prompt, scored

    def label_ids(self, labels: Sequence[str]) -> list[tuple[int, ...]]:
        """Return, per label, the single tokens that say it: with and without a leading space.

        Raises:
            CallFailed: A label that is not one token in either form, or two labels that share one.
        """
        groups = [self._tokens_of_label(label) for label in labels]
        for label, ids in zip(labels, groups, strict=True):
            if not ids:
                raise CallFailed(
                    f"the label {label!r} is not a single token of this model",
                    kind="label-tokens",
                    hint="choose labels of one letter or one short word",
                )
        if len({token for ids in groups for token in ids}) < sum(len(ids) for ids in groups):
            raise CallFailed(
                f"two of the labels {', '.join(labels)} are the same token", kind="label-tokens"
            )
        return groups

    def text(self, ids: Sequence[int], *, after: Sequence[int] = ()) -> str:
        """Return the text of a reply's tokens.

        ``after`` is what they continue: some tokenizers drop the space of a text's first word.
        """
        if not after:
            return str(self._tokenizer.decode(ids, skip_special_tokens=True))
        before = str(self._tokenizer.decode(after, skip_special_tokens=True))
        whole = str(self._tokenizer.decode([*after, *ids], skip_special_tokens=True))
        if whole.startswith(before):
            return whole[len(before) :]
        return self.text(ids)  # a character was split between the two

    def turn_ends(self) -> set[int]:
        """Return the tokens that end a reply: end of sequence, and the template's end of turn."""
        ends = {self._tokenizer.eos_token_id} - {None}
        with contextlib.suppress(CallFailed):
            ends |= {*turn_ends(self._tokenizer, lambda m: self._render(m, start_reply=False))}
        return ends

    def _render(self, messages: Sequence[Message], *, start_reply: bool = True) -> str:
        turns, tools = for_template(messages)
        if self._fold:  # the tools stay those of the first message, which may be gone now
            turns, _ = for_template(fold_system(messages))
        try:
            rendered = self._tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=start_reply,
                **({} if tools is None else {"tools": tools}),
                **self._variables,
            )
        except (jinja2.TemplateError, TypeError) as problem:
            message = f"the model's chat template does not take these messages: {problem}"
            system = messages and messages[0]["role"] == "system" and not self._fold
            hint = "if it takes no system role: options.system: fold" if system else ""
            raise CallFailed(message, kind="chat-template", hint=hint) from None
        if lost := left_out(messages, str(rendered)):
            message = f"the model's chat template leaves out the tool {lost!r}"
            raise CallFailed(
                message,
                kind="chat-template",
                hint="choose a model whose chat template supports tools",
            )
        return str(rendered)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _fit(self, ids: list[int], *, reply: int) -> list[int]:
        if self.context is not None and len(ids) + reply > self.context:
            raise CallFailed(
                f"the prompt has {len(ids)} tokens and the reply at least {reply}; "
                f"the model takes {self.context} in all",
                kind="context-length",
            )
        return ids

    def _tokens_of_label(self, label: str) -> tuple[int, ...]:
        if label not in self._labels:
            self._labels[label] = tuple(sorted(self._label_candidates(label)))
        return self._labels[label]

    def _label_candidates(self, label: str) -> set[int]:
        bare = label.strip()
        if not bare:
            return set()
        # Encoding alone misses one form where a tokenizer puts a space before every text.
        known = self._tokenizer.get_vocab()
        tokens = {known[name] for name in (bare, f"Ġ{bare}", f"▁{bare}") if name in known}
        for text in (bare, f" {bare}"):
            ids = self._encode(text)
            if len(ids) == 1:
                tokens.add(ids[0])
        return {token for token in tokens if self._tokenizer.decode([token]).strip() == bare}
