"""Views of a run: a pair or a judgment together with its prompt and responses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlaif.records import Judgment, Prompt, Response, Row
from rlaif.runs.manifest import Manifest


@dataclass(frozen=True, slots=True)
class PairView:
    """A preference pair with its prompt and responses."""

    prompt: Prompt
    chosen: Response
    rejected: Response
    chosen_prob: float
    """P(chosen is better) in [0.5, 1], after the recorded transforms."""

    margin: float
    """2·|p − ½| in [0, 1]."""

    principles: tuple[str, ...]
    judges: tuple[str, ...]
    agreement: float
    """Share, in [0.5, 1], of opinions on the side of the label."""

    abstained: int
    """Verdicts behind the label that abstained."""

    @property
    def prompt_id(self) -> str:
        """Id of the prompt."""
        return self.prompt.id

    @property
    def chosen_id(self) -> str:
        """Id of the preferred response."""
        return self.chosen.id

    @property
    def rejected_id(self) -> str:
        """Id of the other response."""
        return self.rejected.id


@dataclass(frozen=True, slots=True)
class JudgmentView:
    """A judgment with its prompt and responses."""

    prompt: Prompt
    first: Response
    second: Response
    judgment: Judgment


class ReadableRun(Protocol):
    """The parts of `rlaif.runs.Run` from which flat records are made."""

    @property
    def path(self) -> Path:
        """The run directory."""

    @property
    def manifest(self) -> Manifest:
        """The configuration of the run."""

    def read(self, parts: Sequence[str] | None = None) -> Iterator[Row]:
        """Stream rows with only these parts."""

    def pairs(self) -> Iterator[PairView]:
        """Stream the preference pairs."""

    def judgments(self) -> Iterator[JudgmentView]:
        """Stream the judgments, including those without a preference."""
