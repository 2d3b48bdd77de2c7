"""Lengths, diversity, likelihood: does the model still write text, or has it collapsed?

- Lengths cannot tell whether short is concise or empty. They belong beside every other measure,
  because judges favour length and rules may forbid it.
- Distinct-n is the number of different n-grams over the number of all n-grams (Li et al. 2016,
  arXiv 1510.03055), here over the responses to one prompt together, averaged over prompts. Words
  are compared in lower case, without punctuation. It cannot tell quality: gibberish is as diverse
  as it gets. It also rises when responses get shorter, so a policy that learnt to be brief gains a
  little of it for free; the share repeated within a response and the share common to several
  prompts suffer less from that.
- Likelihood is the mean log-probability per token (natural logarithm) of each response under a base
  model. Collapsed text shows in both directions: gibberish far below what the base model itself
  writes, loops and stock phrases far above it. So it is compared with the baseline, and neither
  direction is good by itself. It cannot tell truth or use: a dull sentence is likely and a
  surprising insight is not. Values under different base models or tokenizers are not comparable.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from rlaif.constitution.rules import split_words
from rlaif.engines import Capability, Engine, Score, require
from rlaif.errors import CallFailed
from rlaif.evaluation.measure import Group, Measure, Measured, per_group, per_response
from rlaif.records import Failure, Message, Response
from rlaif.sessions.concurrent import each

Ngram = tuple[str, ...]

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SHARED_N = 4
"""Four words in a row are rarely common to answers to different prompts by mere grammar."""

_SHORTER = "anything against responses of another length: shorter ones score higher"

DISTINCT = {
    n: Measure(
        f"diversity/distinct-{n}",
        f"different {n}-grams over all {n}-grams in the responses to one prompt",
        better="neither",
        kind="number",
        cannot_tell=_SHORTER,
        of="prompt",
    )
    for n in (1, 2, 3)
}
DUPLICATES = Measure(
    "diversity/duplicates",
    "responses whose words another response of the same model repeats exactly",
    better="lower",
    kind="share",
    cannot_tell="near-duplicates; it also rises with the number of responses drawn",
)
SELF_REPETITION = Measure(
    "diversity/self-repetition",
    f"{_SHARED_N}-grams of a response that it had said before",
    better="lower",
    kind="number",
    cannot_tell="repetition in other words",
)
COMMON = Measure(
    "diversity/common",
    f"{_SHARED_N}-grams of a response that also occur in responses to other prompts",
    better="lower",
    kind="number",
    cannot_tell="a fixed phrase that is right everywhere from one that means nothing",
)


def read_words(text: str) -> list[str]:
    """Return the words in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def ngrams(words: Sequence[str], n: int) -> Iterator[Ngram]:
    """Yield every run of ``n`` words in order; none when there are fewer."""
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Return different over all n-grams of the texts together; None without n-grams.

    In (0, 1]; n-grams do not run over the border of two texts.
    """
    every = [gram for text in texts for gram in ngrams(read_words(text), n)]
    return len(set(every)) / len(every) if every else None


def self_repetition(text: str, n: int = _SHARED_N) -> float | None:
    """Return the share, in [0, 1), of n-grams that the text had said before; None without any."""
    ratio = distinct([text], n)
    return None if ratio is None else 1.0 - ratio


def measure_diversity(groups: Sequence[Group]) -> list[Measured]:
    """Return distinct-1, -2 and -3, duplicates, self-repetition and what prompts have in common.

    Responses too short to hold an n-gram are unscored for it; an empty response is not a duplicate.
    """
    return [
        *(per_group(DISTINCT[n], groups, _distinct_of(n)) for n in (1, 2, 3)),
        per_response(DUPLICATES, groups, _duplicated(groups)),
        per_response(SELF_REPETITION, groups, lambda response: self_repetition(response.text)),
        per_response(COMMON, groups, _common(groups)),
    ]


def _distinct_of(n: int) -> Callable[[Group], float | None]:
    return lambda group: distinct([response.text for response in group.own()], n)


def _duplicated(groups: Sequence[Group]) -> Callable[[Response], float | None]:
    seen = Counter(tuple(read_words(response.text)) for group in groups for response in group.own())

    def value(response: Response) -> float | None:
        words = tuple(read_words(response.text))
        return float(seen[words] > 1) if words else None

    return value


def _common(groups: Sequence[Group]) -> Callable[[Response], float | None]:
    prompts: Counter[Ngram] = Counter()
    for group in groups:
        mine: set[Ngram] = set()
        for response in group.own():
            mine.update(ngrams(read_words(response.text), _SHARED_N))
        prompts.update(mine)

    def value(response: Response) -> float | None:
        own = list(ngrams(read_words(response.text), _SHARED_N))
        return sum(prompts[gram] > 1 for gram in own) / len(own) if own else None

    return value


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


LIKELIHOOD_PURPOSE = "likelihood"


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
    (reply,) = await engine.ask(Score(messages, text, purpose=LIKELIHOOD_PURPOSE))
    if reply.logprob is None or not reply.scored_tokens:
        return None
    return reply.logprob / reply.scored_tokens
