"""Sampling: n responses of the student to one prompt.

Every sample has a seed of its own, derived from the messages and its place in the group. So sample
3 is the same text whether 4 or 40 are drawn, in one call or in many, whatever other prompts run.
"""

from collections.abc import Sequence

from rlaif.engines import Capability, Engine, Generate, Reply, Sampling, request_key
from rlaif.engines.ask import ask_all
from rlaif.errors import CallFailed
from rlaif.records import Failure, Prompt, Response, content_seed
from rlaif.runs.text import mend_text

REFUSED = "refusal"
"""The finish of a reply that the server's own filter cut off: its words, not the model's."""


async def sample_responses(
    engine: Engine,
    prompt: Prompt,
    *,
    n: int,
    sampling: Sampling,
    seed: int,
    system: str = "",
    purpose: str = "sample",
) -> tuple[tuple[Response, ...], tuple[Failure, ...]]:
    """Draw n responses; each becomes a response or a failure, so the two add up to n.

    A reply that the server's own filter refused is a response whose ``finish`` is ``refusal``; it
    is kept as a fact and never compared. A blank reply is a failure of kind ``empty``.

    Args:
        engine: The student. One that can do SAMPLES is asked once; any other once per sample.
        prompt: What to answer.
        n: How many.
        sampling: How to draw.
        seed: The run's seed.
        system: System message put before the conversation; empty for none.
        purpose: What the calls are counted as.

    Raises:
        EngineUnavailable: The model or server is down.
    """
    messages = prompt.with_system(system)
    seeds = tuple(content_seed(seed, "sample", messages, index) for index in range(n))
    together = Capability.SAMPLES in engine.capabilities
    requests = [
        Generate(messages, sampling, some, purpose=purpose)
        for some in ([seeds] if together else [(one,) for one in seeds])
    ]
    answers = await ask_all(engine, requests)
    replies: list[tuple[Reply | CallFailed, str]] = []
    for request, answer in zip(requests, answers, strict=True):
        calls = [request_key(engine.identity, request, one) for one in request.seeds]
        replies.extend(zip(_one_per_seed(answer, len(calls)), calls, strict=True))
    responses: list[Response] = []
    failures: list[Failure] = []
    for index, (reply, call) in enumerate(replies):
        kept = keep_reply(prompt, reply, index=index, origin="sample", call=call)
        if isinstance(kept, Failure):
            failures.append(kept)
        else:
            responses.append(kept)
    return tuple(responses), tuple(failures)


def keep_reply(
    prompt: Prompt, reply: Reply | CallFailed, *, index: int, origin: str, call: str
) -> Response | Failure:
    """Keep one sample: a response, or a failure when the call failed or the reply is blank."""
    if isinstance(reply, CallFailed):
        return Failure("sample", prompt.id, reply.kind, reply.message, reply.attempts)
    if not reply.text.strip() and reply.finish != REFUSED:
        message = f"{origin} {index} is blank (finish: {reply.finish})"
        return Failure("sample", prompt.id, "empty", message)
    return to_response(prompt, reply, index=index, origin=origin, call=call)


def to_response(prompt: Prompt, reply: Reply, *, index: int, origin: str, call: str) -> Response:
    """Keep a reply as a response, word for word; what is no valid Unicode is mended first."""
    return Response.build(
        prompt.id,
        mend_text(reply.text),
        index=index,
        origin=origin,
        finish=reply.finish,
        tokens=reply.usage.completion_tokens or None,
        call=call,
    )


def _one_per_seed(answer: Sequence[Reply] | CallFailed, count: int) -> list[Reply | CallFailed]:
    """Spread one answer over its samples; a sample that did not come back has failed."""
    if isinstance(answer, CallFailed):
        return [answer] * count
    short = CallFailed(f"asked for {count} samples, got {len(answer)}", kind="missing-sample")
    return [*answer[:count], *[short] * (count - len(answer))]
