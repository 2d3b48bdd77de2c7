"""What a judge is: something that gives verdicts on a comparison under principles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from rlaif.constitution import Principle
from rlaif.engines import Capability, Engine
from rlaif.errors import EngineMissing
from rlaif.judging.transforms import Transform
from rlaif.records import Comparison, Prompt, Verdict

Needs = tuple[frozenset[Capability], ...]
"""What a judge asks of its engine: of every set, at least one member."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Model calls that a judge makes under one principle, by kind of request.

    An upper bound: what a ledger remembers is not asked again.
    """

    per: Literal["comparison", "response"]
    """Responses scored by themselves cost the same however many comparisons they are in."""

    labels: int = 0
    """Prefills that read the next token."""

    texts: int = 0
    """Generations."""

    scores: int = 0
    """Prefills that read the log-probability of a response, or its score."""

    every_principle: bool = True
    """Whether calls are made for each principle; else once, whatever the principles."""

    def calls(self, *, comparisons: int, responses: int, principles: int) -> int:
        """Return how many calls these numbers of comparisons, responses and principles take.

        Args:
            comparisons: How many are judged.
            responses: How many different ones take part in them.
            principles: How many speak about each.
        """
        subjects = comparisons if self.per == "comparison" else responses
        each = self.labels + self.texts + self.scores
        return each * subjects * (principles if self.every_principle else min(principles, 1))


class Judge(Protocol):
    """One judge: a method and a model. Safe to call concurrently."""

    @property
    def name(self) -> str:
        """Unique within a run; results are reported by it."""
        ...

    @property
    def method(self) -> str:
        """A key of the table of methods."""
        ...

    @property
    def needs(self) -> Needs:
        """What its engine must be able to do."""
        ...

    @property
    def template_fingerprints(self) -> Mapping[str, str]:
        """Name to fingerprint of every template it renders."""
        ...

    @property
    def cost(self) -> Cost:
        """What it asks for; pure, so that it can be estimated before a run starts."""
        ...

    def transforms(self, principle: str) -> tuple[Transform, ...]:
        """What is done to its opinions under the principle of this id, to be put on record.

        A `Clamp` is kept for the pool of its opinions, after its calibration.
        """
        ...

    async def judge(
        self, prompt: Prompt, comparison: Comparison, principles: Sequence[Principle]
    ) -> tuple[Verdict, ...]:
        """Return the method's verdicts, for every principle and every order it asks in.

        A call that failed for good is a verdict that abstains, with the reason ``failed`` and
        ``kind: message`` as its raw text; nothing is left out silently.

        Raises:
            EngineUnavailable: The model or server is down.
        """
        ...


class Watch(Protocol):
    """What a judge reports its verdicts to until one of them can be read."""

    @property
    def passed(self) -> bool:
        """Whether nothing needs to be reported any more."""
        ...

    async def begin(self) -> None:
        """Wait until one more verdict may be asked for."""
        ...

    def end(self, prompt: str, verdict: Verdict | None) -> None:
        """Report a verdict about a prompt; None when an exception was raised in its place."""
        ...


@runtime_checkable
class ScoresAlone(Protocol):
    """A judge that can score the strength of a response by itself, if its method does."""

    def strength(self, principle: str, score: float) -> float:
        """Return the log-odds behind a response's own score.

        The difference of two is what the judge thinks of the pair.

        Raises:
            ValueError: Its method does not score responses by themselves.
        """
        ...


@runtime_checkable
class SumsUp(Protocol):
    """A judge whose principles may be parts of one opinion."""

    @property
    def sums(self) -> bool:
        """Whether they are, and are summed, not averaged."""
        ...


def sums_up(judge: Judge) -> bool:
    """Return whether principles are parts of one opinion of a judge, and are summed."""
    return isinstance(judge, SumsUp) and judge.sums


@runtime_checkable
class Calibrated(Protocol):
    """A judge whose labels, the pool of its opinions, may have a calibration."""

    @property
    def calibration(self) -> tuple[Transform, ...]:
        """What is done to its labels, to be put on record."""
        ...


def check_needs(needs: Needs, engine: Engine, *, who: str) -> None:
    """Check that an engine can do what a judge asks of it.

    Raises:
        EngineMissing: Names the judge, what it needs and what the engine can do.
    """
    for either in needs:
        if either & engine.capabilities:
            continue
        wanted = " or ".join(sorted(capability.value for capability in either))
        can = ", ".join(sorted(capability.value for capability in engine.capabilities))
        raise EngineMissing(
            f"{who} needs {wanted}, which its engine cannot do (it can: {can})",
            hint="choose another engine or another method for this judge"
            + (", or words: true under pairwise" if Capability.TOP_LOGPROBS in either else ""),
        )
