"""A judge with known faults, and gold on which they can be found again."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from rlaif.engines import Capability, Label, Reply, Request, Usage
from rlaif.records import content_uniform

POSITION_BIAS = 1.0
LENGTH_BIAS = 0.4
"""Log-odds per doubling of length."""

NOISE = 0.1
"""Share of pairs on which it takes the worse response for the better one."""

SKILL = 1.6
"""Log-odds that quality alone is worth."""

GOOD, BAD = "Certainly.", "Perhaps so."
_FENCED = re.compile(r"^<(response_[0-9a-f]+)>\n(.*?)\n</\1>$", re.MULTILINE | re.DOTALL)


class PlantedEngine:
    """Knows a good response by its first word; adds the planted faults to its log-odds.

    Noise belongs to the two responses whatever their order, jitter to the order as well, so that
    the two orders differ by more than the position bias.
    """

    def __init__(
        self,
        *,
        position_bias: float = POSITION_BIAS,
        length_bias: float = LENGTH_BIAS,
        noise: float = NOISE,
        skill: float = SKILL,
        sharpness: float = 1.0,
        jitter: float = 0.5,
    ) -> None:
        self.position_bias = position_bias
        self.length_bias = length_bias
        self.noise = noise
        self.skill = skill
        self.sharpness = sharpness
        self.jitter = jitter
        self.asked = 0

    @property
    def identity(self) -> Mapping[str, Any]:
        faults = (self.position_bias, self.length_bias, self.noise, self.skill, self.sharpness)
        return {"engine": "planted", "faults": list(faults), "jitter": self.jitter}

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.LABEL_LOGPROBS})

    async def ask(self, request: Request) -> Sequence[Reply]:
        assert isinstance(request, Label)
        self.asked += 1
        first, second = [m[2] for m in _FENCED.finditer(request.messages[-1]["content"])]
        logit = self.sharpness * self._content(first, second) + self.position_bias
        logit += self.jitter * (2.0 * content_uniform(0, "jitter", first, second) - 1.0)
        logprobs = (-math.log1p(math.exp(-logit)), -math.log1p(math.exp(logit)))
        return [Reply("A", label_logprobs=logprobs, usage=Usage(len(first), 1))]

    async def aclose(self) -> None:
        """Nothing to close."""

    def _content(self, first: str, second: str) -> float:
        quality = float(first.startswith(GOOD)) - float(second.startswith(GOOD))
        if content_uniform(0, "noise", *sorted((first, second))) < self.noise:
            quality = -quality
        doublings = math.log2((len(first) + 1) / (len(second) + 1))
        return self.skill * quality + self.length_bias * doublings


def write_gold(path: Path, count: int, *, prompts: int | None = None) -> Path:
    """Write gold whose better response starts with GOOD; length and gold are independent."""
    lines = []
    for number in range(count):
        prompt = number % prompts if prompts else number
        texts = []
        for which, start in (("better", GOOD), ("worse", BAD)):
            words = 4 + int(28 * content_uniform(1, which, number))
            texts.append(f"{start} Number {number} of {prompt}" + " word" * words)
        first_is_better = content_uniform(1, "side", number) < 0.5
        a, b = texts if first_is_better else texts[::-1]
        lines.append(
            {
                "id": f"g{number}",
                "prompt": f"What about {prompt}?",
                "response_a": a,
                "response_b": b,
                "label": "a" if first_is_better else "b",
                "source": "planted",
                "category": "even" if number % 2 == 0 else "odd",
            }
        )
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return path
