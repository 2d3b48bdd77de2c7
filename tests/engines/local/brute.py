"""The plain way: one sequence, one full pass per token, no cache, no padding."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from rlaif.records import Message
from tests.engines.tiny import load_plain


class Brute:
    """A model asked without any of the engine's machinery."""

    def __init__(self, folder: Path) -> None:
        self.model, self.tokenizer = load_plain(folder)

    def prompt_ids(self, messages: Sequence[Message], stub: str = "") -> list[int]:
        text = self.tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
        return self.encode(text + stub)

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def logprobs(self, ids: Sequence[int]) -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = self.model(torch.tensor([list(ids)])).logits[0]
        return logits.float().log_softmax(-1)

    def continuation(self, prompt: Sequence[int], continuation: Sequence[int]) -> float:
        logprobs = self.logprobs([*prompt, *continuation])
        return sum(
            float(logprobs[len(prompt) - 1 + at, token]) for at, token in enumerate(continuation)
        )

    def label(self, prompt: Sequence[int], label: str) -> float:
        row = self.logprobs(prompt)[-1]
        variants = {tuple(self.encode(text)) for text in (label, f" {label}")}
        return math.log(sum(float(row[one[0]].exp()) for one in variants if len(one) == 1))

    def write(
        self, prompt: Sequence[int], most: int, choose: Callable[[torch.Tensor, int], int]
    ) -> str:
        """Decode with a rule that picks a token from log-probabilities at each step."""
        tokens: list[int] = []
        while len(tokens) < most:
            token = choose(self.logprobs([*prompt, *tokens])[-1], len(tokens))
            if token == self.tokenizer.eos_token_id:
                break
            tokens.append(token)
        text: Any = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return str(text)


def greedy(logprobs: torch.Tensor, step: int) -> int:
    return int(logprobs.argmax())


def user(text: str, *, system: str = "") -> tuple[Message, ...]:
    start: tuple[Message, ...] = ({"role": "system", "content": system},) if system else ()
    return (*start, {"role": "user", "content": text})
