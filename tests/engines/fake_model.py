"""A model made of arithmetic: every reply is a function of the request, so tests can compute it."""

import hashlib
import json
import math
import re
from typing import Any, Literal

import orjson

Flavour = Literal["vllm", "openai", "plain"]

WORDS = re.compile(r" ?\w+|\s|[^\w\s]")


class Tokenizer:
    """Words with their leading space; ids are given in order of appearance, from 100 on."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.texts: dict[int, str] = {}

    def encode(self, text: str) -> list[int]:
        return [self._id(word) for word in WORDS.findall(text)]

    def _id(self, word: str) -> int:
        if word not in self.ids:
            self.ids[word] = 100 + len(self.ids)
            self.texts[self.ids[word]] = word
        return self.ids[word]


class FakeModel:
    """Answers chat completions. Change its attributes at any time.

    Args:
        flavour: ``vllm`` honours logprob_token_ids and return_tokens_as_token_ids, others do not.
    """

    def __init__(self, flavour: Flavour) -> None:
        self.flavour = flavour
        self.tokenizer = Tokenizer()
        self.next_tokens = {"A": 0.6, " A": 0.1, "B": 0.2, " B": 0.05}
        """Probabilities of the first token of every reply; any other token has 1e-6."""

        self.n_works = True

    def logprob_of(self, token: int) -> float:
        """The log-probability every prompt token has, wherever it stands."""
        return -(token % 7 + 1) / 8.0

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        count = body.get("n", 1) if self.n_works else 1
        choices = [self._choice(body, index) for index in range(count)]
        words = sum(len(message["content"].split()) for message in body["messages"])
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body.get("model"),
            "choices": choices,
            "usage": {
                "prompt_tokens": words,
                "completion_tokens": 5 * count,
                "total_tokens": words + 5 * count,
                "prompt_tokens_details": {"cached_tokens": words // 2},
            },
        }

    def _choice(self, body: dict[str, Any], index: int) -> dict[str, Any]:
        text, finish = self._text(body, index)
        return {
            "index": index,
            "message": {"role": "assistant", "content": text},
            "finish_reason": finish,
            "logprobs": self._logprobs(body) if body.get("logprobs") else None,
        }

    def _text(self, body: dict[str, Any], index: int) -> tuple[str, str]:
        seed = body.get("seed")
        asked = [body["messages"], body.get("temperature"), None if seed is None else seed + index]
        digest = hashlib.blake2b(orjson.dumps(asked), digest_size=8).hexdigest()
        if body.get("logprobs"):
            return max(self.next_tokens, key=lambda token: self.next_tokens[token]), "length"
        choices = body.get("structured_outputs", {}).get("choice")
        if choices:
            return choices[int(digest, 16) % len(choices)], "stop"
        form = body.get("response_format")
        if form:
            allowed = form["json_schema"]["schema"]["properties"]["choice"]["enum"]
            return json.dumps({"choice": allowed[int(digest, 16) % len(allowed)]}), "stop"
        words = f"This is reply {digest} to you".split()
        limit = int(body.get("max_tokens") or body.get("max_completion_tokens") or 1000)
        text, finish = " ".join(words[:limit]), "length" if limit < len(words) else "stop"
        for stop in body.get("stop", []):
            text = text.split(stop)[0]
        return text, finish

    def _logprobs(self, body: dict[str, Any]) -> dict[str, Any]:
        ranked = sorted(self.next_tokens.items(), key=lambda item: -item[1])
        shown = [(token, math.log(p)) for token, p in ranked[: body.get("top_logprobs", 0)]]
        ids = body.get("logprob_token_ids") if self.flavour == "vllm" else None
        first = (ranked[0][0], math.log(ranked[0][1]))
        if ids:
            texts = [self.tokenizer.texts.get(one, "?") for one in ids]
            shown = [first, *((text, math.log(self.next_tokens.get(text, 1e-6))) for text in texts)]
        if body.get("return_tokens_as_token_ids") and self.flavour == "vllm":
            encode = self.tokenizer.encode
            shown = [(f"token_id:{encode(text)[0]}", value) for text, value in shown]
            first = (f"token_id:{encode(first[0])[0]}", first[1])
        top = [{"token": token, "logprob": value, "bytes": None} for token, value in shown]
        token, value = first
        return {"content": [{"token": token, "logprob": value, "top_logprobs": top}]}
