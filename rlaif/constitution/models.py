"""Principle and Constitution: wishes, read, checked, then inert."""

from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from rlaif.records import content_id

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))


class Example(_Frozen):
    """A prompt with a better and a worse response: a test of the principle and an exemplar."""

    prompt: str
    better: str
    worse: str


class Rule(_Frozen):
    """Checks that need no model. All that are given must hold for the rule to be satisfied."""

    max_words: int | None = Field(None, ge=0, description="At most this many words.")
    min_words: int | None = Field(None, ge=0, description="At least this many words.")
    max_sentences: int | None = Field(None, ge=1, description="At most this many sentences.")
    must_match: str | None = Field(None, description="Regular expression found somewhere.")
    must_not_match: str | None = Field(None, description="Regular expression found nowhere.")
    max_repeated_ngram: int | None = Field(
        None, ge=1, description="No 4-gram of words occurs more often than this."
    )
    language: str | None = Field(None, description="ISO 639-1 code of the expected language.")
    ends_complete: bool | None = Field(
        None, description="True: the response ends with sentence-final punctuation, not cut off."
    )


class Principle(_Frozen):
    """One wish about responses."""

    id: Slug
    statement: str = Field(min_length=1)
    kind: Literal["judged", "rule"] = "judged"
    polarity: Literal["encourage", "avoid"] = "encourage"
    weight: float = Field(1.0, ge=0, allow_inf_nan=False)
    tags: tuple[str, ...] = ()
    applies_to: tuple[str, ...] = Field(
        (), description="Prompt tags this principle is for; empty means every prompt."
    )
    critique_request: str = ""
    revision_request: str = ""
    comparison: str = ""
    opposite: str = Field("", description="The statement turned round, for contrastive methods.")
    examples: tuple[Example, ...] = ()
    rule: Rule | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that can change data; two equal principles have the same."""
        return content_id("principle", self.model_dump(mode="json"))

    def applies(self, prompt_tags: tuple[str, ...]) -> bool:
        """Whether this principle is for prompts with these tags."""
        return not self.applies_to or bool(set(self.applies_to) & set(prompt_tags))


class Constitution(_Frozen):
    """An ordered, versioned set of principles, after `extends` has been resolved."""

    name: str
    version: str
    description: str = ""
    principles: tuple[Principle, ...] = Field(min_length=1)

    @cached_property
    def fingerprint(self) -> str:
        """Hash over all principles in order."""
        return content_id("constitution", [p.model_dump(mode="json") for p in self.principles])

    @property
    def label(self) -> str:
        """``name@fingerprint``, first 12 digits: what data sets are marked with."""
        return f"{self.name}@{self.fingerprint[:12]}"

    def principle(self, principle_id: str) -> Principle:
        """Return the principle with this id.

        Raises:
            KeyError: There is none.
        """
        for principle in self.principles:
            if principle.id == principle_id:
                return principle
        raise KeyError(principle_id)

    def judged(self) -> tuple[Principle, ...]:
        """The principles that need a judge."""
        return tuple(p for p in self.principles if p.kind == "judged")

    def rules(self) -> tuple[Principle, ...]:
        """The principles decided without a model."""
        return tuple(p for p in self.principles if p.kind == "rule")
