"""Flows: what a judge method is, apart from how it is asked.

As in `httpx.Auth.auth_flow`, a method is a generator: it yields requests, one or several to be
asked together, receives their replies and returns what it makes of them. It opens no engine,
awaits nothing and knows no ledger. Chain of thought is two yields, one after the other; several
samples of one verdict are one yield of a request with several seeds.

`rlaif.judging.judge` asks what flows yield; the table of all methods is
`rlaif.judging.methods.METHODS`.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from rlaif.constitution import Principle
from rlaif.engines import Capability, Label, Reply, Request
from rlaif.judging.transforms import Transform
from rlaif.records import Choice, Message, Order, Prompt, Response
from rlaif.templates import Template

S = TypeVar("S")


class Question(NamedTuple, Generic[S]):
    """What a flow is asked: which of two responses is better under one principle."""

    prompt: Prompt
    principle: Principle
    order: Order
    a: Response
    """The response shown first; where there is no order, the comparison's first."""

    b: Response
    settings: S
    template: Template | None
    """None for methods that show nothing but the conversation."""

    min_mass: float
    """Label mass below which a verdict abstains; for `rlaif.judging.reading`."""

    capabilities: frozenset[Capability]
    """What the engine can do, for flows that ask better where they can; none in a rehearsal."""

    rehearsed: bool = False
    """Whether nobody is asked; see `rlaif.judging.methods.rehearsal`."""

    @property
    def responses(self) -> tuple[Response, Response]:
        """Both, as shown."""
        return self.a, self.b

    def render(self, **values: Any) -> tuple[Message, ...]:
        """Fill in the method's template; values that it does not take are left out.

        Raises:
            TemplateError: A value that it takes is missing.
            RenderError: A section cannot be rendered with these values.
        """
        if self.template is None:
            raise ValueError("a method without a template renders nothing")
        taken, given = values, self.template.given
        if len(values) > len(given):
            taken = {name: values[name] for name in given if name in values}
        if self.rehearsed:
            shown = str(taken)
            return tuple(Message(role=role, content=shown) for role in self.template.roles)
        return self.template.render(**taken)


class Outcome(NamedTuple):
    """What a flow makes of its replies; the judge adds whose verdict it is and on what.

    With neither a choice nor a number the judge abstains, for the reason given here; where none is
    given, for what the replies lack: a call failed, was refused, or could not be read.
    """

    logit: float | None = None
    """Log-odds of A against B. Where ``scores`` speak alone, the method's `Method.factor` makes
    them of the difference."""

    choice: Choice | None = None
    """Where words decide and there is no number."""

    scores: tuple[float, float] | None = None
    """The responses' own scores, for methods that score each by itself."""

    mass: float | None = None
    """Probability of the labels together, as far as reported."""

    reason: str = ""
    raw: str = ""
    """The judge's words, where they belong on record."""

    @property
    def silent(self) -> bool:
        """Whether it says nothing about the responses."""
        return self.logit is None and self.scores is None and self.choice in (None, Choice.ABSTAIN)


Flow = Generator[tuple[Request, ...], Sequence[Reply], Outcome]
"""Yields requests, receives one reply per request (of `Generate` one per seed) in their order. The
reply to a call that failed for good is `rlaif.judging.reading.NO_REPLY`."""


def _no_transforms(_: Any, __: str) -> tuple[Transform, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Method(Generic[S]):
    """One row of the table of methods: all that is known about one besides what its flow does."""

    settings: type[S]
    """A frozen record with a default for each of its fields."""

    flow: Callable[[Question[S]], Flow]
    template: str | Callable[[S], str] = ""
    """Name of the template, or from settings to the name; empty for none."""

    orders: Literal["none", "averaged", "agreeing"] = "none"
    """``none`` when responses are scored one by one and nothing is shown first. Else how the two
    orders become an opinion: the mean of both, or nothing unless both prefer the same response,
    which takes both."""

    transforms: Callable[[S, str], tuple[Transform, ...]] = _no_transforms
    """From settings and a principle's id to what is done to opinions, on record."""

    factor: Callable[[S, str], float] | None = None
    """From settings and a principle's id to log-odds per unit of a response's own score. None for
    a method that cannot score a response by itself."""

    additive: bool = False
    """Whether its principles are parts of one opinion: averaged in log-odds, before the pool."""

    principle: Principle | None = None
    """For a method that reads no principle: the name under which it speaks once for all."""

    stand_in: str = "A"
    """Text that its flow can read, for a rehearsal of methods that ask for text."""


def label_request(messages: Sequence[Message], labels: tuple[str, ...]) -> Label:
    """Return the request for labels; a last message of the assistant is the start of its reply."""
    if messages[-1]["role"] == "assistant":
        *rest, start = messages
        return Label(tuple(rest), labels, stub=start["content"], purpose="judge")
    return Label(tuple(messages), labels, purpose="judge")


Methods = Mapping[str, Method[Any]]
