"""curator on the same work: two responses a prompt, one judgment of the two. FILE URL SLOTS.

Its tokenizer is fetched from the net, so here a count of letters stands in for it: curator's own
would take longer.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import tiktoken
from bespokelabs import curator
from datasets import Dataset


class Letters:
    """Four letters make a token."""

    def encode(self, text: str, **_: Any) -> range:
        return range(len(text) // 4)


tiktoken.get_encoding = tiktoken.encoding_for_model = lambda _name: Letters()


class Sampler(curator.LLM):
    def prompt(self, row: dict[str, Any]) -> str:
        return row["prompt"]

    def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
        return {"prompt": row["prompt"], "number": row["number"], "response": response}


class Judge(curator.LLM):
    def prompt(self, row: dict[str, Any]) -> str:
        return f"{row['prompt']}\n\nA: {row['a']}\n\nB: {row['b']}\n\nA or B?"

    def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
        return {**row, "verdict": response}


def main(prompts: Path, url: str, slots: int) -> None:
    texts = [json.loads(line)["prompt"] for line in prompts.open()]
    settings = {
        "model_name": "mock",
        "backend": "openai",
        "backend_params": {
            "base_url": f"{url}/v1",
            "api_key": "EMPTY",
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "max_concurrent_requests": slots,
            "require_all_responses": True,
        },
    }
    begun = time.monotonic()
    asked = Dataset.from_list([{"prompt": one, "number": n} for one in texts for n in (0, 1)])
    sampled = Sampler(**settings, generation_params={"max_tokens": 100})(asked)
    sampled = getattr(sampled, "dataset", sampled)
    by_prompt: dict[str, dict[int, str]] = {}
    for row in sampled:
        by_prompt.setdefault(row["prompt"], {})[row["number"]] = row["response"]
    pairs = [{"prompt": one, "a": two[0], "b": two[1]} for one, two in by_prompt.items()]
    judged = Judge(**settings, generation_params={"max_tokens": 1})(Dataset.from_list(pairs))
    judged = getattr(judged, "dataset", judged)
    told = {"seconds": time.monotonic() - begun, "pairs": len(judged)}
    print("\n" + json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
