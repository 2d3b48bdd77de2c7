"""Lengths and diversity: is the text of a usual length, and does it still say different things?

Lengths cannot tell whether short is concise or empty. They belong beside every other measure,
because judges favour length and rules may forbid it.

Distinct-n is the number of different n-grams over the number of all n-grams (Li et al. 2016,
arXiv 1510.03055), here over the responses to one prompt together, averaged over prompts. Words are
compared in lower case, without punctuation. It cannot tell quality: gibberish is as diverse as it
gets. It also rises when responses get shorter, so a policy that learnt to be brief gains a little
of it for free; the share repeated within a response and the share common to several prompts suffer
less from that.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from rlaif.constitution.rules import split_words
from rlaif.evaluation.measure import Group, Measure, Measured, per_group, per_response
from rlaif.records import Response

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

    Responses too short to hold an n-gram are unscored for it; an empty response is no duplicate.
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
