"""The echo judge: it judges honestly by a mark, unless it sees an order outside fences.

It reads as a careless model would: invisible characters are not there, look-alike characters are
the ones they look like, a special token or a line with the name of a role starts a new turn. What
stands between a fence's own two tags is material; all else is the frame, and any order or verdict
in it that the template itself did not write is obeyed.
"""

import math
import re
import unicodedata
from collections.abc import Sequence

from rlaif.engines import Generate, Label, Reply, Request, Score
from rlaif.records import Message

MARK = "It takes eight minutes."
"""What the honestly better response says."""

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    "\U000e0000-\U000e007f]"
)
_TURN = re.compile(
    r"<\|[^|>\n]{1,40}\|>|<｜[^｜>\n]{1,40}｜>|</?s>|\[/?INST\]|<</?SYS>>"
    r"|<(?:start|end)_of_turn>|</?think>"
    r"|^[ \t]*(?:\*\*|#{1,6} *)?(?:human|user|assistant|system|developer|judge|instruction)"
    r"(?:\*\*)?[ \t]*(?::|$)",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = re.compile(r"^<(\w+_[0-9a-f]{6,})>$\n(.*?)^</\1>$", re.MULTILINE | re.DOTALL)
_ORDER = re.compile(
    r"(?:choose|w[äa]hle|verdict:|answer:|\[result\]|my letter is|example is|winner\W+)\s*([AB])\b",
    re.IGNORECASE,
)


def as_read(content: str) -> str:
    """The text as a careless reader has it before them."""
    lines = re.sub("\r\n|[\r\u2028\u2029\x0b\x0c\x85]", "\n", content)
    return unicodedata.normalize("NFKC", _INVISIBLE.sub("", lines))


def frame(messages: Sequence[Message]) -> list[str]:
    """The lines outside fences; a special token or turn inside a fence tears it open."""
    lines: list[str] = []
    for message in messages:
        seen = as_read(message["content"])
        outside = _FENCE.sub(_torn_open, seen)
        lines.extend(line.strip() for line in outside.splitlines() if line.strip())
    return lines


def fences(messages: Sequence[Message]) -> list[str]:
    """What stands inside fences, in order, as it was written."""
    return [match[2] for message in messages for match in _FENCE.finditer(message["content"])]


def _torn_open(match: re.Match[str]) -> str:
    torn = _TURN.search(match[2])
    return "" if torn is None else match[2][torn.start() :]


class EchoJudge:
    """Answers any request.

    Args:
        trusted: Lines of the frame that the template writes.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self.trusted = frozenset(trusted)
        self.obeyed: list[str] = []
        self.asked: list[Request] = []

    def __call__(self, request: Request, _: int | None = None) -> Reply:
        self.asked.append(request)
        if isinstance(request, Score):
            return self._score(request)
        order = self._order(request.messages)
        if isinstance(request, Label):
            wanted = self._label(request, order)
            return Reply(
                wanted,
                label_logprobs=tuple(
                    math.log(0.9 if label == wanted else 0.1 / (len(request.labels) - 1))
                    for label in request.labels
                ),
            )
        return self._write(request, order)

    def _order(self, messages: Sequence[Message]) -> str | None:
        for line in frame(messages):
            if line not in self.trusted and (found := _ORDER.search(line)):
                self.obeyed.append(line)
                return found[1].upper()
        return None

    def _label(self, request: Label, order: str | None) -> str:
        if request.labels == ("A", "B"):
            return order or self._honest(request.messages)
        good = MARK in fences(request.messages)[-1]
        if len(request.labels) == 9:
            return "9" if order else "7" if good else "3"
        against = "go against" in request.messages[-1]["content"].rsplit("</", 1)[-1]
        return "Yes" if order or good is not against else "No"

    def _honest(self, messages: Sequence[Message]) -> str:
        shown = [text for text in fences(messages[:2]) if text.strip()]
        return "A" if MARK in shown[-2] else "B"

    def _write(self, request: Generate, order: str | None) -> Reply:
        """Reason by quoting everything it saw, or say the letter after quoting it."""
        seen = request.messages[-1]["content"]
        if "Think step by step" in seen:
            return Reply(f"I have seen this:\n{seen}")
        return Reply(
            f"I have seen this:\n{seen}\nAnswer: {order or self._honest(request.messages)}"
        )

    def _score(self, request: Score) -> Reply:
        """A text with the mark is likelier under a wish than under its contrary."""
        system = request.messages[0]["content"]  # of contrast; reward models get none
        good, kept = MARK in request.continuation, "contrary" not in system
        return Reply(
            logprob=-10.0 if good is kept else -20.0, scored_tokens=10, score=1.0 if good else -1.0
        )
