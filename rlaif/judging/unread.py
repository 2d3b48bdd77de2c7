"""Verdicts that could not be had, by what was said about them."""

from collections import Counter
from collections.abc import Iterable, Sequence

from rlaif.judging.protocol import FAILED_REASON
from rlaif.records import Choice, Verdict
from rlaif.runs.text import one_line

_SHOWN = 300

NO_VERDICT = "no judge gave a readable verdict"


def why_unread(verdicts: Sequence[Verdict]) -> str:
    """Return one line when not one of these verdicts was read; empty when there is none at all."""
    if not verdicts or any(one.choice is not Choice.ABSTAIN for one in verdicts):
        return ""
    return NO_VERDICT + failed_most(count_unread(verdicts))


def count_unread(verdicts: Iterable[Verdict]) -> Counter[str]:
    """Count verdicts that abstain: by the server's words where a call failed, else by reason."""
    return Counter(
        (one.raw if one.reason == FAILED_REASON else "") or one.reason or "unknown"
        for one in verdicts
        if one.choice is Choice.ABSTAIN
    )


def failed_most(messages: Counter[str]) -> str:
    """Return the most frequent message with its count, to be put behind a sentence."""
    most = messages.most_common(1)
    return "".join(f"; most frequent failure: {n} × {one_line(text, _SHOWN)}" for text, n in most)
