"""Principle and Constitution: frozen values, checked when they are built."""

import re
import warnings
from functools import cached_property
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rlaif.records import content_id

_CODES = (
    "af am an ar as az be bg bn br bs ca cs cy da de dz el en eo es et eu fa fi fo fr ga gl gu he "
    "hi hr ht hu hy id is it ja jv ka kk km kn ko ku ky la lb lo lt lv mg mk ml mn mr ms mt ne nl "
    "nn no oc or pa pl ps pt qu ro ru rw se si sk sl sq sr sv sw ta te th tl tr ug uk ur vi vo wa "
    "xh zh zu"
)
LANGUAGES = frozenset(_CODES.split())
"""ISO 639-1 codes that the language check can tell apart."""

Slug = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$",
        description="Lower-case words joined by hyphens, such as no-invented-facts.",
    ),
]
Text = Annotated[str, StringConstraints(strip_whitespace=True)]
"""Text without the line break that a YAML block leaves at its end."""

RequiredText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Count = Annotated[int, Field(strict=True)]

Name = Annotated[
    RequiredText, Field(description="Short name; data sets are marked name@fingerprint.")
]
Version = Annotated[
    RequiredText, Field(description="For readers, such as 1.0.0; not part of identity.")
]
Description = Annotated[Text, Field(description="What it is for, in a sentence or two.")]


ModelT = TypeVar("ModelT", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    def __copy__(self) -> Self:
        """Copy the fields only: ``model_copy(update=...)`` must not keep the old fingerprint."""
        return _without_cache(super().__copy__())

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the fields only, as above."""
        return _without_cache(super().__deepcopy__(memo))


class Example(_Frozen):
    """A prompt with a better and a worse response: a test of the principle and an exemplar."""

    prompt: RequiredText = Field(description="What the person wrote.")
    better: Text = Field(description="A response that follows the principle.")
    worse: Text = Field(description="A response that does not, as close to the better as it can.")


class Rule(_Frozen):
    """Checks that need no model. All that are given must hold for the rule to be satisfied."""

    max_words: Count | None = Field(None, ge=0, description="At most this many words.")
    min_words: Count | None = Field(None, ge=0, description="At least this many words.")
    max_sentences: Count | None = Field(None, ge=1, description="At most this many sentences.")
    must_match: str | None = Field(
        None, description="Regular expression (Python) that is found somewhere in the response."
    )
    must_not_match: str | None = Field(
        None, description="Regular expression (Python) that is found nowhere in the response."
    )
    max_repeated_ngram: Count | None = Field(
        None, ge=1, description="No run of four words occurs more often than this."
    )
    language: str | None = Field(
        None, description="ISO 639-1 code of the expected language, such as en."
    )
    ends_complete: Literal[True] | None = Field(
        None, description="true: the response ends with sentence-final punctuation, not cut off."
    )

    @field_validator("must_match", "must_not_match")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # re warns about patterns whose meaning may change
                re.compile(pattern or "")
        except (re.error, OverflowError, RecursionError, Warning) as problem:
            raise PydanticCustomError(
                "bad_regex", "not a valid regular expression: {why}", {"why": str(problem)}
            ) from None
        return pattern

    @field_validator("language")
    @classmethod
    def _known_language(cls, code: str | None) -> str | None:
        if code is not None and code not in LANGUAGES:
            shown = code if code.isprintable() else repr(code)
            raise PydanticCustomError(
                "unknown_language", "unknown language code {code}", {"code": shown}
            )
        return code

    @model_validator(mode="after")
    def _satisfiable(self) -> "Rule":
        if not self.model_dump(exclude_none=True):
            raise PydanticCustomError("empty_rule", "the rule has no checks")
        counts = (self.max_words, self.min_words, self.max_sentences, self.max_repeated_ngram)
        if any((count or 0) >= 2**63 for count in counts):
            raise PydanticCustomError("impossible_rule", "a count needs more than 64 bits")
        if self.max_words is not None and (self.min_words or 0) > self.max_words:
            raise PydanticCustomError(
                "impossible_rule",
                "min_words is greater than max_words, so no text can satisfy the rule",
            )
        return self


class Principle(_Frozen):
    """One wish about responses."""

    id: Slug = Field(description="Stable and unique, kebab-case: results are reported by it.")
    statement: RequiredText = Field(description="The wish in one plain sentence.")
    kind: Literal["judged", "rule"] = Field(
        "judged", description="judged: a judge decides. rule: decided by `rule`, without a model."
    )
    polarity: Literal["encourage", "avoid"] = Field(
        "encourage", description="Whether the statement asks for something or forbids it."
    )
    weight: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        strict=True,
        description="How often this principle is drawn, relative to the others; 0 is never.",
    )
    tags: tuple[str, ...] = Field((), description="Groups that reports sum over.")
    applies_to: tuple[str, ...] = Field(
        (), description="Prompt tags this principle is for; empty means every prompt."
    )
    critique_request: Text = Field(
        "", description="Asks the critic to point out where a response falls short."
    )
    revision_request: Text = Field("", description="Asks for the response rewritten to comply.")
    comparison: Text = Field("", description="The judge's question: Which response …?")
    opposite: Text = Field("", description="The statement turned round, for contrastive methods.")
    examples: tuple[Example, ...] = Field(
        (), description="Tests of this principle, and exemplars for prompts that show some."
    )
    rule: Rule | None = Field(None, description="The checks of a rule principle; all must hold.")

    @model_validator(mode="after")
    def _rule_fits_kind(self) -> "Principle":
        if self.kind == "rule" and self.rule is None:
            raise PydanticCustomError("rule_missing", "kind is rule but rule is missing")
        if self.kind == "judged" and self.rule is not None:
            raise PydanticCustomError("rule_unused", "rule is given but kind is judged")
        return self

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that can change data: all but ``tags``, which only group reports."""
        return content_id("principle", _data(self))

    def applies(self, prompt_tags: tuple[str, ...]) -> bool:
        """Whether this principle is for prompts with these tags."""
        return not self.applies_to or bool(set(self.applies_to) & set(prompt_tags))


class Constitution(_Frozen):
    """An ordered, versioned set of principles, after `extends` has been resolved."""

    name: Name
    version: Version
    description: Description = ""
    principles: tuple[Principle, ...] = Field(min_length=1, description="The wishes, in order.")

    @model_validator(mode="after")
    def _ids_differ(self) -> "Constitution":
        seen: set[str] = set()
        for principle in self.principles:
            if principle.id in seen:
                raise PydanticCustomError(
                    "duplicate_id", "duplicate principle id {id}", {"id": principle.id}
                )
            seen.add(principle.id)
        return self

    @cached_property
    def fingerprint(self) -> str:
        """Hash over all principles in order."""
        return content_id("constitution", [_data(principle) for principle in self.principles])

    @property
    def label(self) -> str:
        """``name@fingerprint``, first 12 digits: what data sets are marked with."""
        return f"{self.name}@{self.fingerprint[:12]}"

    def principle(self, principle_id: str) -> Principle:
        """Return the principle with this id.

        Raises:
            KeyError: No principle has this id.
        """
        for principle in self.principles:
            if principle.id == principle_id:
                return principle
        raise KeyError(principle_id)

    def judged(self) -> tuple[Principle, ...]:
        """The principles that need a judge."""
        return self._judged

    def rules(self) -> tuple[Principle, ...]:
        """The principles decided without a model."""
        return self._rules

    @cached_property
    def _judged(self) -> tuple[Principle, ...]:
        return tuple(p for p in self.principles if p.kind == "judged")

    @cached_property
    def _rules(self) -> tuple[Principle, ...]:
        return tuple(p for p in self.principles if p.kind == "rule")


def _without_cache(model: ModelT) -> ModelT:
    """Clear the cached properties of a fresh copy, so that only fields are left."""
    for name in model.__dict__.keys() - type(model).model_fields.keys():
        del model.__dict__[name]
    return model


def _data(principle: Principle) -> dict[str, Any]:
    """What can change data; defaults are left out, so that a new field changes no fingerprint."""
    return principle.model_dump(mode="json", exclude={"tags"}, exclude_defaults=True)
