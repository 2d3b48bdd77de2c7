"""What a judge is: something that gives verdicts on a comparison under principles."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from rlaif.constitution import Principle
from rlaif.engines import Capability, Engine
from rlaif.errors import EngineMissing
from rlaif.records import Comparison, Prompt, Verdict

Needs = tuple[frozenset[Capability], ...]
"""What a judge asks of its engine: of every set, at least one member."""

REFUSED_REASON = "refused"
FAILED_REASON = "failed"
UNREADABLE_REASON = "unreadable"
LOW_MASS_REASON = "low-mass"


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
        """Name to fingerprint of every template it shows."""
        ...

    async def judge(
        self, prompt: Prompt, comparison: Comparison, principles: Sequence[Principle]
    ) -> tuple[Verdict, ...]:
        """Say what the method says, for every principle and every order it asks in.

        A call that failed for good is a verdict that abstains, with the reason ``failed`` and
        ``kind: message`` as its raw text; nothing is left out silently.

        Raises:
            EngineUnavailable: The model or server is down.
        """
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
            hint="choose another engine or another method for this judge",
        )
