"""Rule checks: decided without a model, with the same result on every machine.

Definitions:

- A *word* is a stretch between white space (and long dashes) that holds a letter or digit:
  ``don't``, ``well-known`` and ``3.5`` are one word, a lone ``-`` is none. Han, kana and other
  East Asian syllables written without spaces count one word per character. Thai, Lao, Khmer and
  Burmese, also written without spaces, are not divided.
- A *sentence* ends at ``. ! ? …`` or their East Asian forms, with closing quotes or brackets,
  before white space that no lower-case letter follows; and at a blank line or a list marker.
  ``Dr.``, ``J. Smith`` and the number of a list item end none. What is left at the end is one.
- A *repeated n-gram* is a run of four words, compared without case and outer punctuation.
- A response *ends complete* when its last line is a closing code fence, or its last character is
  sentence-final, not counting closing quotes, brackets, emphasis marks and symbols such as emoji.
- Regular expressions are Python's, searched anywhere, case-sensitive unless the pattern says
  ``(?i)``. They see the first 20,000 characters: Python's engine cannot be stopped by a clock, and
  the time of some patterns grows with the square of the length (seconds at that cap). A few grow
  exponentially; lint warns of the repeated repetition that makes them.
- *Language*: broken only when another language is at least ten times as probable, so that a short
  text, which tells little, passes. Ask for ``min_words`` too if an empty response must not.
"""

import math
import re
import unicodedata
from collections import Counter
from functools import lru_cache

from rlaif.constitution.models import Rule
from rlaif.records.marks import split_marks

LONGEST_SEARCHED = 20_000
"""Regular expressions see this many characters of a response."""

NGRAM = 4
"""How many words a repeated run has."""

_CHARACTER_WORDS = "\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CHARACTER_WORDS}]|[^\s—―{_CHARACTER_WORDS}]+")
_BLOCK = re.compile(r"\n\s*\n|\n\s*(?=(?:[-*+•]|\d{1,3}[.)])\s)|^\s*(?:[-*+•]|\d{1,3}[.)])\s", re.M)
_END = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’»)\]*_]*+(?=\s++[^a-zà-öø-ÿ]|\s*+$)|[。！？]++[」』”’）]*+"
)
"""Begins only at the first mark of several and gives nothing back: time grows with the text."""

_TITLE = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|Fig)|(?:^|\s)[A-HJ-Z])\.$")
_FINAL = frozenset(".!?…。！？")
_CLOSING = "\"'”’»)]}*_`~」』）"
_MARKER = re.compile(r"[-*+•]|\d{1,3}[.)]")
_FEWEST_ODDS = 10.0


def check_rule(rule: Rule, text: str) -> bool:
    """Whether a response satisfies every check of a rule."""
    return not explain_rule(rule, text)


def explain_rule(rule: Rule, text: str) -> list[str]:
    """Return the checks a response fails, with numbers; empty when it satisfies the rule."""
    return [
        *_explain_lengths(rule, text),
        *_explain_patterns(rule, text),
        *_explain_form(rule, text),
    ]


def split_words(text: str) -> list[str]:
    """Return the words of a text, as defined at the top of this file."""
    return [word for word in _WORD.findall(text) if _has_word(word)]


def count_sentences(text: str) -> int:
    """Return the number of sentences of a text, as defined at the top of this file."""
    return sum(_count_in_block(block) for block in _BLOCK.split(text))


def count_repeats(text: str) -> tuple[int, str]:
    """Return how often the most frequent run of four words occurs, and that run."""
    words = [_bare(word) for word in split_words(text)]
    runs = Counter(zip(*(words[start:] for start in range(NGRAM)), strict=False))
    if not runs:
        return 0, ""
    run, count = min(runs.items(), key=lambda item: (-item[1], item[0]))
    return count, " ".join(run)


def ends_complete(text: str) -> bool:
    """Whether a text ends like a finished one, as defined at the top of this file."""
    text = text.rstrip()
    fences = sum(line.lstrip().startswith("```") for line in text.splitlines())
    if fences:
        if fences % 2:
            return False
        if text.splitlines()[-1].strip() == "```":
            return True
    if _MARKER.fullmatch(text.rpartition("\n")[2].strip()):
        return False
    last = next((c for c in reversed(text) if not _follows_the_end(c)), "")
    return last in _FINAL


def odds_against(language: str, text: str) -> tuple[float, str]:
    """Return how many times as probable the likeliest other language is, and its code.

    Below 1 when the expected language is the likeliest. The identifier's log-probabilities are
    divided by √bytes first, as its authors do, since neighbouring letters are not independent.
    """
    import py3langid  # half a second and 60 MB: only for constitutions that ask for a language

    scores = {code: float(score) for code, score in py3langid.rank(split_marks(text))}
    expected = scores.pop(language)
    other = max(scores, key=lambda code: scores[code])
    scale = math.sqrt(len(text.encode("utf-8", "surrogatepass")) or 1)
    return math.exp(min((scores[other] - expected) / scale, 700.0)), other


def _explain_lengths(rule: Rule, text: str) -> list[str]:
    failed = []
    if rule.max_words is not None or rule.min_words is not None:
        words = len(split_words(text))
        if rule.max_words is not None and words > rule.max_words:
            failed.append(f"max_words: {words} words, at most {rule.max_words} allowed")
        if rule.min_words is not None and words < rule.min_words:
            failed.append(f"min_words: {words} words, at least {rule.min_words} needed")
    if rule.max_sentences is not None and (count := count_sentences(text)) > rule.max_sentences:
        failed.append(f"max_sentences: {count} sentences, at most {rule.max_sentences} allowed")
    return failed


def _explain_patterns(rule: Rule, text: str) -> list[str]:
    failed = []
    searched = text[:LONGEST_SEARCHED]
    if rule.must_match is not None and not _compiled(rule.must_match).search(searched):
        failed.append(f"must_match: {rule.must_match!r} does not match")
    if rule.must_not_match is not None and (hit := _compiled(rule.must_not_match).search(searched)):
        failed.append(f"must_not_match: {hit.group()!r:.60} at character {hit.start() + 1}")
    return failed


def _explain_form(rule: Rule, text: str) -> list[str]:
    failed = []
    if rule.max_repeated_ngram is not None:
        count, run = count_repeats(text)
        if count > rule.max_repeated_ngram:
            allowed = rule.max_repeated_ngram
            failed.append(f"max_repeated_ngram: {run!r} occurs {count} times, at most {allowed}")
    if rule.language is not None:
        odds, other = odds_against(rule.language, text)
        if odds >= _FEWEST_ODDS:
            failed.append(f"language: {other} is {odds:.3g} times as probable as {rule.language}")
    if rule.ends_complete and not ends_complete(text):
        failed.append(f"ends_complete: the end is {text.rstrip()[-20:]!r}")
    return failed


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _count_in_block(block: str) -> int:
    count, start, last = 0, 0, len(block.rstrip())
    for end in _END.finditer(block):
        stop = end.end()
        if stop < last and _TITLE.search(block[max(start, stop - 8) : stop]):
            continue
        count += _has_word(block[start:stop])
        start = stop
    return count + _has_word(block[start:])


def _has_word(text: str) -> bool:
    return text.isalnum() or any(c.isalnum() for c in text)


def _bare(word: str) -> str:
    if word.isalnum():
        return word.casefold()
    start, end = 0, len(word)
    while start < end and not word[start].isalnum():
        start += 1
    while end > start and not word[end - 1].isalnum():
        end -= 1
    return word[start:end].casefold()


def _follows_the_end(character: str) -> bool:
    """Whether this may stand after sentence-final punctuation: closers, space, emoji."""
    if character in _CLOSING or character.isspace():
        return True
    return unicodedata.category(character) in ("So", "Sk", "Cf", "Mn")
