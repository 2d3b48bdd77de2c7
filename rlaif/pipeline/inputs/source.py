"""Where prompts come from, which columns hold what, and what is left out."""

from dataclasses import dataclass
from pathlib import Path

from rlaif.config.prompts import DecontaminateConfig, DedupConfig, FileKind


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Exactly one of ``path`` and ``hub``, and what to make of it.

    The fields mean what the keys of `rlaif.config.prompts.PromptsConfig` mean:
    ``PromptSource(**dict(settings.prompts))``.
    """

    path: str | Path | None = None
    """A file, a folder, a pattern, or an address."""

    format: FileKind | None = None
    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    streaming: bool = True
    split: str = "train"
    column: str = "prompt"
    id_column: str | None = None
    tags_column: str | None = None
    tags: tuple[str, ...] = ()
    drop_last_reply: bool = False
    limit: int | None = None
    """Records read at most, those that are no prompts or are left out among them."""

    partition: str | None = None
    """``3/16``: only the third of sixteen parts. To which part a record belongs, its id decides."""

    dedup: DedupConfig | None = None
    decontaminate: DecontaminateConfig | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is looked at."""
        named = (self.column, self.id_column, self.tags_column)
        return tuple(column for column in named if column is not None)

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path or self.hub)
