"""Rehearsal: a flow run with stand-in replies, to know what it asks for before anything is asked.

No method says by hand what its engine must do or what it costs: both follow from the requests that
its flow yields. Words stand in for rendered templates, so that a rehearsal depends on no prompt.
"""

import math
from collections.abc import Callable, Sequence

from rlaif.constitution import Principle
from rlaif.engines import Capability, Generate, Label, Reply, Request, Score
from rlaif.judging.methods.flow import Flow, Outcome
from rlaif.judging.protocol import Cost, Needs
from rlaif.records import Comparison, Prompt, Response

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


def needs_of(requests: Sequence[Request], scored_by: Capability) -> Needs:
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
        asked = next(flow)
        while True:
            requests.extend(asked)
            asked = flow.send([reply for one in asked for reply in _replies(one, text, scored_by)])
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
            return [Reply(text=request.choices[0] if request.choices else text)] * len(
                request.seeds
            )


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
