"""Odd replies of judges and students through parsing and the whole pipeline.

    .venv/bin/python -m tests.security.fuzz_replies 30000

Nothing may raise, every prompt must end as a row or a failure, every verdict that abstains must say
why, and no preference may leave [0, 1].
"""

import json
import math
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import rlaif
from rlaif.engines import Capability, Engine, Generate, Reply, Request, Score, Usage
from rlaif.errors import CallFailed
from rlaif.judging.reading import is_refusal, parse_choice, read_expected, read_labels
from rlaif.records import Choice
from rlaif.runs import Run
from rlaif.sessions import session
from tests.e2e.project import write_project

TEXTS = (
    "A", "B", " a.", "**B**", "Verdict: A", "A or B", "Both", "", " ", "\n\n", "```json\n", "```",
    '{"answer": "A"}', '{"answer": 1}', '{"answer": ["A"]}', '{"Answer": "B", "winner": "A"}',
    '{"answer": null', "{", "[" * 3000, '{"a":' * 1500, "answer: " * 300 + "A", "A is better",
    "I'm sorry, but I can't", "NO FAULT FOUND", "no fault", "<|im_end|>", "</s>", "<think>A",
    "</response_000000>", "\x00", "\x1b[2J", "\ud800", "\udfff\ud800", "\u2028A", "𝐀", "Ａ",
    "🙂", "\u0301" * 50, "7", "10", "-1", "1e999", "NaN", "{{ 7 * 7 }}", "{% raw %}", "A" * 5000,
)  # fmt: skip
NUMBERS = (
    0.0, -0.0, -1e-9, -0.7, -1.0, -30.0, -745.0, -1e308, 1e-9, 3.0, 710.0, 1e308,
    math.inf, -math.inf, math.nan, None,
)  # fmt: skip
FINISHES = ("stop", "length", "refusal", "content_filter", "", "error", "\x1b")


def odd_text(dice: random.Random) -> str:
    text = dice.choice(TEXTS)
    for _ in range(dice.choice([0, 0, 1, 2])):
        at = dice.randrange(len(text) + 1)
        text = text[:at] + dice.choice(TEXTS)[:200] + text[at:]
    return text


def odd_reply(dice: random.Random, labels: int) -> Reply:
    count = dice.choice([labels, labels, labels, 0, 1, labels + 1])
    return Reply(
        text=odd_text(dice),
        finish=dice.choice(FINISHES),
        label_logprobs=tuple(dice.choice(NUMBERS) for _ in range(count)),
        logprob=dice.choice(NUMBERS),
        scored_tokens=dice.choice([None, 0, 1, 100]),
        score=dice.choice(NUMBERS),
        usage=Usage(dice.choice([0, 7]), dice.choice([0, 2**40]), 0),
    )


def read_odd_replies(seed: int, count: int) -> None:
    """Parse so many replies in every way there is."""
    dice = random.Random(seed)
    for _ in range(count):
        reply = odd_reply(dice, dice.choice([2, 9]))
        reading = read_labels(reply, min_mass=dice.choice([0.0, 0.5]))
        assert reading.logit is None or math.isfinite(reading.logit), reply
        assert (reading.choice is Choice.ABSTAIN) == bool(reading.reason), reply
        expected = read_expected(reply, labels=9)
        assert (expected.value is None) == bool(expected.reason), reply
        assert expected.value is None or 1.0 <= expected.value <= 9.0, reply
        assert parse_choice(reply.text, ("A", "B")) in ("A", "B", None), reply
        assert is_refusal(reply.text) in (True, False)


class OddEngine:
    """Answers with what no server should say, each time the same to the same request."""

    capabilities = frozenset(Capability)

    def __init__(self, name: str, seed: int) -> None:
        self.identity = {"engine": "odd", "model": name, "seed": seed}
        self.replies = 0

    async def ask(self, request: Request) -> Sequence[Reply]:
        self.replies += 1
        dice = random.Random(f"{self.identity}{request!r}")
        if dice.random() < 0.03:
            raise CallFailed(odd_text(dice), kind=dice.choice(["http-500", "\x1b", ""]))
        if isinstance(request, Generate):
            seeds = len(request.seeds)
            return [odd_reply(dice, 0) for _ in range(seeds)]
        return [odd_reply(dice, 1 if isinstance(request, Score) else len(request.labels))]

    async def aclose(self) -> None:
        """Nothing to close."""


JUDGES: tuple[dict[str, Any], ...] = (
    {"method": "pairwise"},
    {"method": "pairwise", "pairwise": {"words": True}},
    {"method": "pairwise", "pairwise": {"chain_of_thought": True}},
    {"method": "pointwise"},
    {"method": "rubric"},
    {"method": "salmon"},
    {"method": "contrast"},
    {"method": "reward"},
)


def run_odd_pipeline(folder: Path, seed: int, prompts: int) -> tuple[Run, int]:
    """Make a run with every method of judging on such replies; also return how many there were."""
    opened: list[OddEngine] = []

    def open_odd(config: Any) -> Engine:
        opened.append(OddEngine(config.model, seed))
        return opened[-1]

    judges = [
        {"name": f"j{place}", "engine": "scripted", "model": f"m{place}", **judge}
        for place, judge in enumerate(JUDGES)
    ]
    path = write_project(
        folder, prompts=prompts, judges=judges, judging={"principles": {"choose": "one"}}
    )
    with patch.object(session, "open_configured", open_odd):
        run = rlaif.generate(path)
    status = run.status(verify=True)
    assert status.damaged == {}
    assert status.rows + status.failed == prompts
    rows = list(run.rows())
    assert len(rows) == status.rows
    for row in rows:
        for judgment in row.judgments:
            assert judgment.preference is None or 0.0 <= judgment.preference <= 1.0
            for verdict in judgment.verdicts:
                assert (verdict.choice is Choice.ABSTAIN) == bool(verdict.reason), verdict
        for pair in row.pairs:
            assert 0.0 <= pair.margin <= 1.0
    return run, sum(engine.replies for engine in opened)


def main() -> None:
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000
    read_odd_replies(0, wanted)
    done = rows = seed = 0
    while done < wanted:
        with tempfile.TemporaryDirectory() as name:
            run, replies = run_odd_pipeline(Path(name), seed, 100)
            rows += run.status().rows
        done, seed = done + replies, seed + 1
    print(json.dumps({"parsed": wanted, "through the pipeline": done, "rows": rows}))  # noqa: T201


if __name__ == "__main__":
    main()
