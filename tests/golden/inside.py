"""The only file here that knows where things lie inside the package; after a move, change it alone.

Everything else goes through `rlaif`, the command line and the files that they write.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rlaif.cli.main import main
from rlaif.engines import Generate, Label, Reply, Request, Score, open as opening
from rlaif.engines.protocol import Usage
from rlaif.engines.scripted import Answer, ScriptedEngine
from rlaif.errors import CallFailed
from rlaif.runs import Ledger

STEADY = "golden-steady"

_WORDS = (
    *("apple", "bridge", "cloud", "door", "elbow", "field", "glass", "hill", "iron", "jar"),
    *("kite", "lamp", "moon", "nest", "oar", "plum"),
)
_CHOICES = (
    *("A", "B", "The better response is B.", '{"answer": "A"}', "**A**", "B is better"),
    *("I'm sorry, I cannot choose.", "Both have something."),
)


@contextmanager
def golden_engine() -> Iterator[list[ScriptedEngine]]:
    """Let a file say ``engine: scripted, model: golden…``; yield every scripted engine it opens.

    The ready-made behaviours neither score like a reward model, nor choose in words, nor leave a
    label out. This one does, and its failures have words of their own, so that a reworded message
    of the package changes no row. `STEADY` fails at nothing, so that a ledger can hold every call.
    """
    opened: list[ScriptedEngine] = []
    build, used = opening._BUILDERS["scripted"]

    def open_scripted(*, model: str, **more: Any) -> ScriptedEngine:
        if model.startswith("golden"):
            answer = partial(_answer, failing=model != STEADY)
            engine = ScriptedEngine(answer, name=model)
        else:
            engine = build(model=model, **more)  # type: ignore[assignment]
        opened.append(engine)
        return engine

    with patch.dict(opening._BUILDERS, {"scripted": (open_scripted, used)}):
        yield opened


def asked_of(engines: list[ScriptedEngine]) -> int:
    """Return how many replies were asked of these engines."""
    return sum(engine.asked.total() for engine in engines)


def ledger_facts(folder: Path) -> dict[str, str]:
    """Return, for each purpose and engine, how many keys a ledger holds and a hash over them."""
    keys: dict[str, list[str]] = {}
    with closing(Ledger.open(folder / "ledger.sqlite", read_only=True)) as ledger:
        for entry in ledger.entries():
            reused = ", reused" if entry.reused else ""
            keys.setdefault(f"{entry.purpose} by {entry.engine}{reused}", []).append(entry.key)
    return {
        name: f"{len(some)} keys {hashlib.sha256(' '.join(sorted(some)).encode()).hexdigest()[:16]}"
        for name, some in sorted(keys.items())
    }


def command(*words: str | Path) -> Any:
    """Run the command line in this process; return what it prints on stdout, read as JSON.

    Raises:
        AssertionError: It exits with another code than 0.
    """
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    complaints = io.StringIO()
    code: object = None
    try:
        with (
            patch("sys.argv", ["rlaif", *map(str, words)]),
            redirect_stdout(printed),
            redirect_stderr(complaints),
        ):
            main()
    except SystemExit as end:
        code = end.code
    assert code == 0, f"rlaif {words[0]} exits with {code}: {complaints.getvalue()}"
    printed.seek(0)
    return json.loads(printed.read())


def _answer(request: Request, seed: int | None, *, failing: bool) -> Answer:
    asked = [type(request).__name__, request.messages, getattr(request, "stub", ""), seed]
    if isinstance(request, Generate) and request.sampling.temperature == 0:
        asked[-1] = None
    if isinstance(request, Score):
        asked.append(request.continuation)
    dice = hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).digest()
    if failing and dice[0] < 8:
        return CallFailed("the golden engine fails here", kind="golden", attempts=2)
    usage = Usage(prompt_tokens=10 + dice[1], completion_tokens=1 + dice[2] % 8)
    match request:
        case Generate():
            finish = "refusal" if dice[3] < 8 else "length" if dice[3] < 24 else "stop"
            return Reply(_text(request.purpose, dice), finish=finish, usage=usage)
        case Label(labels=labels):
            known = (-0.4 * len(labels) - dice[8 + n] / 64 for n in range(len(labels)))
            logprobs: list[float | None] = list(known)
            if dice[4] < 8:
                logprobs[-1] = None
            return Reply(labels[0], label_logprobs=tuple(logprobs), usage=usage)
        case Score(continuation=continuation):
            words = max(len(continuation.split()), 1)
            return Reply(
                logprob=-words * (1 + dice[5] / 128),
                scored_tokens=words,
                score=(dice[6] - 128) / 64,
                usage=usage,
            )


def _text(purpose: str, dice: bytes) -> str:
    if purpose == "judge":
        return _CHOICES[dice[7] % len(_CHOICES)]
    if purpose == "critique" and dice[7] < 64:
        return "No fault found."
    words = [_WORDS[dice[8 + n % 24] % 16] for n in range(3 + dice[7] % 40)]
    return " ".join(words).capitalize() + "." * (dice[7] % 4 > 0)
