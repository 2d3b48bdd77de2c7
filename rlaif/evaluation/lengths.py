"""Lengths: how long the responses are, and how many were cut off by the token limit.

What they cannot tell: whether short is concise or empty. They belong beside every other measure,
because judges favour length and rules may forbid it.
"""

from collections.abc import Sequence

from rlaif.constitution.rules import split_words
from rlaif.evaluation.measure import Group, Measure, Measured, per_response
from rlaif.records import Response

WORDS = Measure(
    "length/words",
    "words per response, counted as the rules count them",
    better="neither",
    kind="number",
    cannot_tell="whether a short response is concise or empty",
)
TOKENS = Measure(
    "length/tokens",
    "tokens per response, as the engine counted them",
    better="neither",
    kind="number",
    cannot_tell="anything across models with different tokenizers",
)
CUT_OFF = Measure(
    "length/cut-off",
    "responses that ended at the token limit instead of by themselves",
    better="lower",
    kind="share",
    cannot_tell="whether a response that ended by itself is complete",
)


def measure_lengths(groups: Sequence[Group]) -> list[Measured]:
    """Return words, tokens (unscored where the engine did not count) and the share cut off."""
    return [
        per_response(WORDS, groups, lambda response: float(len(split_words(response.text)))),
        per_response(TOKENS, groups, _tokens),
        per_response(CUT_OFF, groups, lambda response: float(response.finish == "length")),
    ]


def _tokens(response: Response) -> float | None:
    return None if response.tokens is None else float(response.tokens)
