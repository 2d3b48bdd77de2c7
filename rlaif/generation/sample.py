"""Sampling: n responses of the student to one prompt.

Every sample has its own seed, derived from the messages and its index in the group. So sample 3 is
the same text whether 4 or 40 are drawn, in one call or in many, and whatever other prompts run.
"""

from collections.abc import Sequence

from rlaif.engines import Capability, Engine, Generate, Reply, Sampling, request_key
from rlaif.engines.ask import ask_all
from rlaif.errors import CallFailed
from rlaif.records import Failure, Prompt, Response, content_seed
from rlaif.runs.text import fix_text

REFUSED = "refusal"
"""The finish of a reply that the server's content filter cut off or replaced."""


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

    A reply refused by the server's filter is a response whose ``finish`` is ``refusal``; it is kept
    and never compared. A blank reply is a failure of kind ``empty``.

    Args:
        engine: The student. With the capability SAMPLES it is called once, else once per sample.
        prompt: The prompt to answer.
        n: Number of responses.
        sampling: Sampling parameters.
        seed: The run's seed.
        system: System message put before the conversation; empty for none.
        purpose: What the ledger counts the calls as.

    Raises:
        EngineUnavailable: The engine is down.
    """
    messages = prompt.with_system(system)
    seeds = tuple(content_seed(seed, "sample", messages, index) for index in range(n))
    together = Capability.SAMPLES in engine.capabilities
    requests = [
        Generate(messages, sampling, group, purpose=purpose)
        for group in ([seeds] if together else [(each,) for each in seeds])
    ]
    answers = await ask_all(engine, requests)
    replies: list[tuple[Reply | CallFailed, str]] = []
    for request, answer in zip(requests, answers, strict=True):
        calls = [request_key(engine.identity, request, each) for each in request.seeds]
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
    """Return one sample as a response, or as a failure if the call failed or the reply is blank."""
    if isinstance(reply, CallFailed):
        return Failure("sample", prompt.id, reply.kind, reply.message, reply.attempts)
    if not reply.text.strip() and reply.finish != REFUSED:
        message = f"{origin} {index} is blank (finish: {reply.finish})"
        return Failure("sample", prompt.id, "empty", message)
    return to_response(prompt, reply, index=index, origin=origin, call=call)


def to_response(prompt: Prompt, reply: Reply, *, index: int, origin: str, call: str) -> Response:
    """Return a reply as a response, word for word; invalid Unicode is replaced."""
    return Response.build(
        prompt.id,
        fix_text(reply.text),
        index=index,
        origin=origin,
        finish=reply.finish,
        tokens=reply.usage.completion_tokens or None,
        call=call,
    )


def _one_per_seed(answer: Sequence[Reply] | CallFailed, count: int) -> list[Reply | CallFailed]:
    """Return one result per sample; samples missing from the answer are failures."""
    if isinstance(answer, CallFailed):
        return [answer] * count
    short = CallFailed(f"asked for {count} samples, got {len(answer)}", kind="missing-sample")
    return [*answer[:count], *[short] * (count - len(answer))]
