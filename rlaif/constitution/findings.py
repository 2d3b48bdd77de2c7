"""Findings: what is wrong or doubtful in a constitution file, where, and how to mend it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from rlaif.config import Document

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend. Its text is one line: file:line:column: what; how to mend."""

    file: str
    line: int
    """From 1; 0 when the constitution was given in Python and has no lines."""

    column: int
    severity: Severity
    code: str
    """Stable kebab-case name of the kind of finding."""

    message: str
    mend: str
    principle: str = ""
    """Id of the principle it is about; empty when it is about the file."""

    @property
    def where(self) -> str:
        """file:line:column, or the file alone when there are no lines."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def __str__(self) -> str:
        mend = f"; {self.mend}" if self.mend else ""
        return f"{self.where}: {self.message}{mend}"

    def as_json(self) -> dict[str, Any]:
        """The same as plain data, for one line of ``--json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a file that something was read from."""

    document: Document
    place: tuple[str | int, ...] = ()

    def within(self, *steps: str | int) -> "Spot":
        """Return the spot of a part of what is here."""
        return Spot(self.document, (*self.place, *steps))

    @property
    def position(self) -> tuple[int, int]:
        """Line and column from 1 of the nearest part that has them; zeros when there are none."""
        place = self.place
        while place and place not in self.document.positions:
            place = place[:-1]
        return self.document.positions.get(place, (0, 0))

    def finding(
        self,
        severity: Severity,
        code: str,
        message: str,
        mend: str = "",
        *,
        principle: str = "",
    ) -> Finding:
        """Return a finding that stands here."""
        line, column = self.position
        file = str(self.document.path)
        return Finding(file, line, column, severity, code, message, mend, principle)
