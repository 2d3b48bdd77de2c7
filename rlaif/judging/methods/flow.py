"""Flows: what a judge method is, apart from how it is asked.

As in `httpx.Auth.auth_flow`, a method is a generator: it yields requests, one or several to be
asked together, receives their replies and returns what it makes of them. It opens no engine,
awaits nothing and knows no ledger. Chain of thought is two yields, one after the other; several
samples of one verdict are one yield of a request with several seeds.

`rlaif.judging.judge` asks what flows yield; the table of all methods is
`rlaif.judging.methods.METHODS`.

No method says by hand what its engine must do or what it costs: both follow from a rehearsal, a run
of its flow with stand-in replies before anything is asked. Words stand in for rendered templates,
so that a rehearsal depends on no prompt.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from rlaif.constitution import Principle
from rlaif.engines import Capability, Generate, Label, Reply, Request, Score
from rlaif.judging.protocol import Cost, Needs
from rlaif.judging.transforms import Transform
from rlaif.records import Choice, Comparison, Message, Order, Prompt, Response
from rlaif.templates import Template

S = TypeVar("S")


class Question(NamedTuple, Generic[S]):
    """What a flow decides: which of two responses is better under one principle."""

    prompt: Prompt
    principle: Principle
    order: Order
    a: Response
    """The response shown first; for methods without order, the comparison's first."""

    b: Response
    settings: S
    template: Template | None
    """None for methods that show nothing but the conversation."""

    min_mass: float
    """Label mass below which a verdict abstains; for `rlaif.judging.reading`."""

    capabilities: frozenset[Capability]
    """What the engine can do, for flows that ask better where they can; none where it is found out
    what a flow needs."""

    rehearsed: bool = False
    """Whether replies are stand-ins; see `rehearse`."""

    @property
    def responses(self) -> tuple[Response, Response]:
        """Both responses, in the order shown."""
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
    """What a flow concludes from its replies; the judge makes it a `Verdict`.

    With neither a choice nor a number the judge abstains, for the reason given here; where none is
    given, for what the replies lack: a call failed, was refused, or could not be read.
    """

    logit: float | None = None
    """Log-odds of A against B. Where ``scores`` speak alone, the method's `Method.factor` makes
    them of the difference."""

    choice: Choice | None = None
    """For verdicts read from words, which have no log-odds."""

    scores: tuple[float, float] | None = None
    """The responses' own scores, for methods that score each by itself."""

    mass: float | None = None
    """Probability of the labels together, as far as reported."""

    reason: str = ""
    raw: str = ""
    """The judge's words, to be kept on record."""

    partial: bool = False
    """Whether it can do without some of its replies: a refused one then refuses nothing else."""

    @property
    def silent(self) -> bool:
        """Whether it says nothing about the responses."""
        return self.logit is None and self.scores is None and self.choice in (None, Choice.ABSTAIN)


Flow = Generator[tuple[Request, ...], Sequence[Reply], Outcome]
"""Yields requests, receives one reply per request (of `Generate` one per seed) in their order. The
reply to a call that failed for good is `rlaif.judging.reading.NO_REPLY`."""


def _no_transforms(_: Any, __: str) -> tuple[Transform, ...]:
    return ()


def _no(_: Any) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Method(Generic[S]):
    """One row of the table of methods: everything about one besides what its flow does."""

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

    summed: Callable[[S], bool] = _no
    """``additive``: from settings to whether they are summed in place of averaged."""

    principle: Principle | None = None
    """For a method that reads no principle: stands for all of them, in one verdict."""

    stand_in: str = "A"
    """Text that its flow can read, for a rehearsal of methods that ask for text."""


def label_request(messages: Sequence[Message], labels: tuple[str, ...]) -> Label:
    """Return the request for labels; a last message of the assistant is the start of its reply."""
    if messages[-1]["role"] == "assistant":
        *rest, start = messages
        return Label(tuple(rest), labels, stub=start["content"], purpose="judge")
    return Label(tuple(messages), labels, purpose="judge")


Methods = Mapping[str, Method[Any]]


PROMPT = Prompt.build("A question.", id="rehearsal")
PRINCIPLE = Principle(
    id="rehearsal",
    statement="A principle.",
    opposite="Its opposite.",
    comparison="Which response keeps to the principle?",
)
_ONE, _OTHER = (Response.build(PROMPT.id, text, index=at) for at, text in enumerate(("I", "II")))
TWO = Comparison(_ONE, _OTHER)
TWICE = Comparison(_ONE, _ONE)

_LABELS = frozenset({Capability.LABEL_LOGPROBS, Capability.TOP_LOGPROBS})


def rehearse(start: Callable[[], Sequence[Flow]], *, text: str) -> tuple[list[Request], Capability]:
    """Run flows to their end and return what they asked for, and what they read of a `Score`.

    An engine scores a reply by its log-probability or as a reward model does; the flow needs the
    kind with which it comes to a verdict.

    Args:
        start: Gives fresh flows.
        text: The reply to a request for text.

    Raises:
        ValueError: With no kind of reply there is a verdict, so that more might have been asked.
    """
    for scored_by in (Capability.SCORE, Capability.REWARD):
        requests: list[Request] = []
        if all([not _run(flow, requests, text, scored_by).silent for flow in start()]):  # noqa: C419 - each is run
            return requests, scored_by
    raise ValueError(
        f"the flow came to no verdict in rehearsal (the replies were {text!r}, even labels and "
        "finite scores): give its method a stand_in that it can read"
    )


def needs_of(requests: Sequence[Request], scored_by: Capability = Capability.SCORE) -> Needs:
    """Return what an engine must be able to do to answer these requests."""
    needs = [
        (any(isinstance(one, Label) for one in requests), _LABELS),
        (any(isinstance(one, Score) for one in requests), frozenset({scored_by})),
        (any(isinstance(one, Generate) for one in requests), frozenset({Capability.GENERATE})),
        (any(_structured(one) for one in requests), frozenset({Capability.STRUCTURED})),
        (any(_started(one) for one in requests), frozenset({Capability.PREFILL})),
    ]
    return tuple(need for needed, need in needs if needed)


def cost_of(
    about_two: Sequence[Request], about_one: Sequence[Request], *, every_principle: bool
) -> Cost:
    """Return how many calls these requests are; what is asked twice is one call.

    Args:
        about_two: What is asked about two responses under one principle.
        about_one: What is asked when both are the same response; empty for methods that show both.
        every_principle: As in `Cost`.
    """
    pair, single = _distinct(about_two), _distinct(about_one)
    alone = bool(single) and len(pair) == 2 * len(single)
    counted = single if alone else pair
    return Cost(
        "response" if alone else "comparison",
        labels=sum(isinstance(one, Label) for one in counted),
        texts=sum(len(one.seeds) for one in counted if isinstance(one, Generate)),
        scores=sum(isinstance(one, Score) for one in counted),
        every_principle=every_principle,
    )


def _run(flow: Flow, requests: list[Request], text: str, scored_by: Capability) -> Outcome:
    try:
        batch = next(flow)
        while True:
            requests.extend(batch)
            batch = flow.send(
                [reply for request in batch for reply in _replies(request, text, scored_by)]
            )
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


def _replies(request: Request, text: str, scored_by: Capability) -> list[Reply]:
    match request:
        case Label():
            share = -math.log(len(request.labels))
            return [Reply(label_logprobs=(share,) * len(request.labels))]
        case Score():
            if scored_by is Capability.REWARD:
                return [Reply(score=0.0)]
            return [Reply(logprob=-1.0, scored_tokens=1)]
        case Generate():
            said = request.choices[0] if request.choices else text
            # Samples differ, and so does what is asked about each of them.
            return [Reply(said + " " * n, reasoning=" " * n) for n in range(len(request.seeds))]


def _structured(request: Request) -> bool:
    return isinstance(request, Generate) and bool(request.choices or request.schema)


def _started(request: Request) -> bool:
    return not isinstance(request, Score) and bool(request.stub)


def _distinct(requests: Sequence[Request]) -> list[Request]:
    kept: list[Request] = []
    for request in requests:
        if request not in kept:
            kept.append(request)
    return kept
