"""Likelihood: how natural the responses are to a model that was not trained.

The mean log-probability per token (natural logarithm) of each response under a base model, asked
of its engine. Collapsed text shows in both directions: gibberish far below what the base model
itself writes, loops and stock phrases far above it. So it is compared with the baseline, and
neither direction is good by itself.

What it cannot tell: truth, or use. A dull sentence is likely and a surprising insight is not.
Values under different base models or tokenizers are not comparable.
"""

from collections.abc import Callable, Sequence

from rlaif.engines import Capability, Engine, Score, require
from rlaif.errors import CallFailed
from rlaif.evaluation.measure import Group, Measure, Measured, per_response
from rlaif.records import Failure, Message, Response
from rlaif.sessions.concurrent import each

PURPOSE = "likelihood"


def likelihood_measure(under: str) -> Measure:
    """Return the measure, named for the model whose probabilities are used."""
    return Measure(
        "likelihood",
        f"mean log-probability per token of the responses under {under}",
        better="neither",
        kind="number",
        cannot_tell="whether likely text is good; loops are likely and gibberish is not",
    )


async def measure_likelihood(
    groups: Sequence[Group],
    engine: Engine,
    *,
    under: str,
    system: str = "",
    concurrency: int = 64,
    on_done: Callable[[], None] | None = None,
) -> tuple[Measured, list[Failure]]:
    """Ask the engine for the log-probability of every response.

    Args:
        groups: The responses of one model.
        engine: The base model; must be able to score.
        under: Its name, for the report.
        system: System message the responses were drawn with.
        concurrency: Calls in flight at once.
        on_done: Called after each response.

    Returns:
        The values, and a failure for each call that failed. Failed, empty and tokenless
        responses are unscored.

    Raises:
        EngineMissing: The engine cannot score.
        EngineUnavailable: The model or server is down.
    """
    require(engine, Capability.SCORE, who="the likelihood measure")
    failures: list[Failure] = []

    async def value(item: tuple[Group, Response]) -> float | None:
        group, response = item
        try:
            return await _per_token(engine, group.prompt.with_system(system), response.text)
        except CallFailed as problem:
            failures.append(
                Failure("score", response.id, problem.kind, problem.message, problem.attempts)
            )
            return None
        finally:
            if on_done is not None:
                on_done()

    items = [(group, response) for group in groups for response in group.own()]
    values = dict(
        zip(
            (response.id for _, response in items),
            await each(items, value, concurrency=concurrency),
            strict=True,
        )
    )
    failures.sort(key=lambda failure: failure.record_id)
    measure = likelihood_measure(under)
    return per_response(measure, groups, lambda response: values[response.id]), failures


async def _per_token(engine: Engine, messages: tuple[Message, ...], text: str) -> float | None:
    if not text.strip():
        return None
    (reply,) = await engine.ask(Score(messages, text, purpose=PURPOSE))
    if reply.logprob is None or not reply.scored_tokens:
        return None
    return reply.logprob / reply.scored_tokens
