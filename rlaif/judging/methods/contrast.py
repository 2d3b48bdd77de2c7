"""Contrastive likelihood: judging by how much a wish changes a response's likelihood (from DLMA).

Liu et al. 2024 (arXiv 2402.11907). With p⁺ a system message that keeps to the
principle and p⁻ one that does the opposite,

    R = [log π(a₁|p⁺) − log π(a₁|p⁻)] − [log π(a₂|p⁺) − log π(a₂|p⁻)]

from summed log-probabilities. No instruction has to be followed and no order is shown, so small
models can do it.

This is DLMA's reward and not the whole method. The paper generates a₁ under p⁺ and a₂ under p⁻ and
puts ``w·clamp(R)`` into a loss of its own, as a margin; here any two responses are judged, any loss
is trained, and ``scale · clamp(R, ±clamp)`` (the paper's 0.2 and 40) is taken as log-odds that the
first is better.

Cost: two scored prefills per response and principle; those of one response are the same calls in
every comparison it takes part in.
"""

import math

from rlaif.config.judge import Contrast
from rlaif.engines import Reply, Score
from rlaif.errors import TemplateError
from rlaif.judging.methods.flow import Flow, Outcome, Question
from rlaif.judging.position import cut

TEMPLATE = "judge/contrast"


def flow(question: Question[Contrast]) -> Flow:
    """Score both responses under the principle and under its opposite.

    Raises:
        TemplateError: The template is more than a system message.
    """
    settings, principle, template = question.settings, question.principle, question.template
    if template is not None and template.roles != ("system",):
        raise TemplateError(f"{template.path}: must have one section, --- system, and no other")
    personas = [
        question.render(
            statement=principle.statement, opposite=principle.opposite, against=against
        )[0]["content"]
        for against in (False, True)
    ]
    replies = yield tuple(
        Score(question.prompt.with_system(persona), response.text, purpose="judge")
        for response in question.responses
        for persona in personas
    )
    read = [_logprob(reply, per_token=settings.per_token) for reply in replies]
    known = [value for value in read if value is not None]
    if len(known) < len(read):
        return Outcome()
    first, second = known[0] - known[1], known[2] - known[3]
    logit = contrast_logit(first, second, scale=settings.scale, clamp=settings.clamp)
    return Outcome(logit=logit, scores=(first, second))


def contrast_logit(first: float, second: float, *, scale: float, clamp: float) -> float:
    """Return log-odds that the first response is better.

    Args:
        first: log π(a₁|p⁺) − log π(a₁|p⁻), in nats.
        second: The same of the second response.
        scale: Log-odds per nat of difference, > 0.
        clamp: The difference is cut to ± this before scaling.
    """
    return scale * cut(first - second, clamp)


def _logprob(reply: Reply, *, per_token: bool) -> float | None:
    if reply.logprob is None or not math.isfinite(reply.logprob):
        return None
    if not per_token:
        return reply.logprob
    return reply.logprob / reply.scored_tokens if reply.scored_tokens else None
