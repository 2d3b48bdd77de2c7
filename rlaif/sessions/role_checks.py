"""What was found out about each role of a run before it starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlaif.errors import EngineError
from rlaif.records.plain import Plain, plain_fields


@dataclass(frozen=True, slots=True)
class TinyCall(Plain):
    """One call that a role will make in larger form."""

    kind: str
    """Such as ``4 samples``, ``labels A, B``, ``one of A, B``, ``JSON``, ``text`` or ``score``."""

    seconds: float
    completion_tokens: int
    """Of its replies; 0 when there were none or the server did not say."""

    replies: int
    """0: it failed, or there was no reply in time."""

    @property
    def ok(self) -> bool:
        """Whether it was answered."""
        return self.replies > 0


@dataclass(frozen=True, slots=True)
class RoleCheck(Plain):
    """The roles that one engine plays, and whether it can. None stands for not known."""

    roles: tuple[str, ...]
    account: str
    """Its name in ledgers and estimates."""

    engine: str
    model: str
    address: str = ""
    """Of its server; empty for an engine in this process."""

    remote: bool = False
    """Whether it is behind a server; engines in this process are not asked."""

    reachable: bool | None = None
    key_accepted: bool | None = None
    model_known: bool | None = None
    label_mass: float | None = None
    """Probability of a judge's labels together, the least of all its judges."""

    readable: bool | None = None
    """Whether its judges gave a verdict on an easy comparison."""

    takes: Mapping[str, Any] = field(default_factory=dict)
    """What is sent or left out, by field, and how labels are read."""

    priced: bool | None = None
    """Whether the price of its tokens is known; None in this process, where they cost nothing."""

    calls: tuple[TinyCall, ...] = ()
    warnings: tuple[str, ...] = ()
    problem: EngineError | None = None
    """Why its roles cannot work."""

    @property
    def label(self) -> str:
        """Its roles in a few characters."""
        return ", ".join(self.roles)

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against starting."""
        return self.problem is None

    def to_json(self) -> dict[str, Any]:
        """Return everything; the problem as its message, its hint and its exit code."""
        problem = None
        if self.problem is not None:
            code = self.problem.exit_code
            problem = {"message": self.problem.message, "hint": self.problem.hint, "code": code}
        return plain_fields(self) | {"problem": problem, "ok": self.ok}
