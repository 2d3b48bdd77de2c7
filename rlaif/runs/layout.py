"""The paths of the files in a run directory."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one run."""

    root: Path

    @property
    def manifest(self) -> Path:
        """The configuration of the run."""
        return self.root / "manifest.json"

    @property
    def ledger(self) -> Path:
        """Every model call."""
        return self.root / "ledger.sqlite"

    @property
    def replies(self) -> Path:
        """The folder of reply shards."""
        return self.root / "replies"

    @property
    def staged(self) -> Path:
        """Prompts on their way to workers; exists only during a run."""
        return self.root / "staged"

    @property
    def shards(self) -> Path:
        """The folder of rows."""
        return self.root / "shards"

    @property
    def orphans(self) -> Path:
        """Ids of rows whose prompt is no longer in the input."""
        return self.root / "orphans.ids"

    @property
    def failures(self) -> Path:
        """Prompts that could not become a row."""
        return self.root / "failures.jsonl"

    @property
    def log(self) -> Path:
        """Events with their times."""
        return self.root / "log.jsonl"

    @property
    def lock(self) -> Path:
        """Locked while a process writes."""
        return self.root / "lock"
