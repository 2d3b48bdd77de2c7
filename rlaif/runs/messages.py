"""What servers said about calls that failed: counted by role, most frequent first."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from rlaif.records import Failure
from rlaif.records.plain import Plain
from rlaif.runs.text import one_line

_ROLES = {"sample": "student", "critique": "critic", "revise": "critic"}
_CHANGING = re.compile(r"\b[0-9a-f]{8,}\b|\d+")
"""What differs between messages that say the same: numbers and ids."""

_SHOWN = 300
_MOST = 1000
"""Different messages kept for one role; what is said after that counts as ``other``."""

_OTHER = "other", "other messages"


@dataclass(frozen=True, slots=True)
class Message(Plain):
    """One message about failed calls of a role."""

    role: str
    """``student``, ``critic`` or ``judge:`` and its name."""

    kind: str
    message: str
    """As it was said first; equal but for numbers and ids are counted together."""

    count: int


class MessageCounter:
    """Counts messages of failed calls. Failures of the input are not calls and are left out."""

    def __init__(self, failures: Iterable[Failure] = ()) -> None:
        self._counts: dict[str, Counter[tuple[str, str]]] = {}
        self._first: dict[tuple[str, str], str] = {}
        for failure in failures:
            self.add(failure)

    def add(self, failure: Failure) -> None:
        """Count one failure."""
        stage, words = failure.stage, failure.message
        if stage == "judge":
            subject, _, words = words.partition(": ")
            role = f"judge:{subject.partition('/')[0]}"
        elif stage in _ROLES:
            role = _ROLES[stage]
            if role == "critic" and words.startswith("round "):
                words = words.partition(": ")[2]
        else:
            return
        counts = self._counts.setdefault(role, Counter())
        shown = one_line(words, _SHOWN)
        key = failure.kind, _CHANGING.sub("#", shown)
        if key not in counts and len(counts) >= _MOST:
            key, shown = _OTHER, _OTHER[1]
        self._first.setdefault(key, shown)
        counts[key] += 1

    @property
    def roles(self) -> tuple[str, ...]:
        """Those of which a call failed, sorted."""
        return tuple(sorted(self._counts))

    def total(self, role: str) -> int:
        """Return how many calls of a role failed."""
        return self._counts.get(role, Counter()).total()

    def shares(self, made: Mapping[str, int]) -> dict[str, float]:
        """Return the share of failed calls by role.

        Args:
            made: By role, what was made of the other calls. What abstained for another reason than
                a failed call is in neither number.
        """
        totals = {role: self.total(role) for role in self.roles}
        return {role: n / (n + made.get(role, 0)) for role, n in totals.items() if n}

    def most_common(self, count: int = 3) -> Iterator[Message]:
        """Yield the most frequent messages of each role, at most so many."""
        for role, counts in sorted(self._counts.items()):
            for key, number in counts.most_common(count):
                yield Message(role, key[0], self._first[key], number)
