"""The wording of a statement: signs that two judges would read it differently.

Word lists and counts for English, no model: cheap enough to run at every save, and every hit can
be explained. They miss much and are sometimes wrong, so they only ever warn.
"""

import difflib
import re

from rlaif.constitution.rules import count_sentences, split_words

FEWEST_WORDS = 4
"""A statement shorter than this leaves most of its meaning to the reader."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VAGUE = _words(
    "acceptable adequate appropriate appropriately bad best better desirable effective effectively "
    "ethical ethically excellent good great harmless helpful high-quality honest immoral "
    "inappropriate inappropriately meaningful moral negative nice optimal positive problematic "
    "proper properly reasonable reasonably sensible suitable thoughtful unacceptable undesirable "
    "unethical wise"
)
_VERBS = _words(
    "acknowledge add admit apologise apologize ask assume avoid be become begin call choose cite "
    "claim complete confirm consider correct deceive decline demean describe discourage discuss do "
    "don't encourage end ensure explain express follow generate give ignore include inform insult "
    "invent keep leave let maintain make manipulate mention mislead never omit pretend prefer "
    "prioritise prioritize promote protect provide put refuse reject remain remove repeat respond "
    "reveal say select speak start stay stop suggest summarise summarize take talk teach tell "
    "think threaten treat try understand verify warn write"
)
_NOUN_OR_VERB = _words(
    "address answer attack comment check guess harm help judge lecture link list mock name note "
    "offer point praise present question quote reply report request respect show state support "
    "use"
)
_OBJECT = _words(
    "a all an any each every her him how in it its no nobody only out people someone that the "
    "their them this what whether which why with your"
)
_STOPWORDS = _words(
    "a an and any are as at be by do does don't for from in is it its never not of on or so "
    "that the their them they this to when with you your"
)
_JOIN = re.compile(r"\b(?:and|or|but|as well as)\s+(?:also\s+|then\s+|always\s+|to\s+)?", re.I)
_QUALITIES = re.compile(
    r"\b(?:be|stay|remain|sound|appear)\s+(?:[\w-]+,\s+)*[\w-]+,?\s+(?:and|or)\s+(?:not\s+)?[\w-]+",
    re.I,
)
_FORBIDDING = re.compile(r"(?:do not|don['’]t|never|avoid|refrain|stop)\b", re.I)
_REPEATED_GROUP = re.compile(r"\(([^()]*)\)(?:[+*]|\{\d*,\})")


def vague_words(statement: str) -> list[str]:
    """Return the words that praise or blame without saying what to look for in a response."""
    return [word for word in _plain_words(statement) if word in _VAGUE]


def joined_demands(statement: str) -> str:
    """Return the words where a second demand begins; empty when there is only one demand.

    With two demands in one statement a judge cannot answer when a response meets one of them.
    """
    if ";" in statement or count_sentences(statement) > 1:
        return "a second sentence"
    qualities = _QUALITIES.search(statement)
    if qualities:
        return qualities.group()
    for join in _JOIN.finditer(statement):
        words = _plain_words(statement[join.end() :])[:2]
        if _begins_demand(words):
            return f"{join.group().strip()} {words[0]}"
    return ""


def forbids(statement: str) -> bool:
    """Whether a statement begins as a prohibition."""
    return _FORBIDDING.match(statement) is not None


def likeness(one: str, other: str) -> float:
    """Return how alike two statements are, from 0 to 1; 1 only for the same words in one order.

    The larger of two measures: shared words among all their words (without function words and
    endings), and the share of words in matching runs.
    """
    first, second = _plain_words(one), _plain_words(other)
    if first == second:
        return 1.0
    runs = difflib.SequenceMatcher(None, first, second, autojunk=False).ratio()
    stems, others = _stems(first), _stems(second)
    shared = len(stems & others) / len(stems | others) if stems | others else 0.0
    return min(max(runs, shared), 0.99)


def repeats_a_repetition(pattern: str) -> bool:
    """Whether a regular expression repeats a group that itself repeats, such as ``(a+)+``.

    Such patterns can need time that doubles with every character. Bounded repeats do not count.
    """
    plain = re.sub(r"\[\^?\]?[^\]]*\]", "x", re.sub(r"\\.", "x", pattern))
    return any("+" in group or "*" in group for group in _REPEATED_GROUP.findall(plain))


def _begins_demand(words: list[str]) -> bool:
    if not words:
        return False
    if words[0] in _VERBS:
        return True
    return words[0] in _NOUN_OR_VERB and len(words) > 1 and words[1] in _OBJECT


def _plain_words(text: str) -> list[str]:
    return [word.strip("\"'.,:;!?()“”‘’").casefold() for word in split_words(text)]


def _stems(words: list[str]) -> set[str]:
    return {re.sub(r"(?:ing|ed|es|e|s)$", "", word) for word in words if word not in _STOPWORDS}


_LESS = _words(
    "less fewer least fewest without no not none nothing never neither nor free avoids avoid "
    "avoiding refrains rather keeps"
)
_FEW = _words("few short brief briefly only sparing sparingly limit limits most")
_WORSE = _words("worse worst fails failing ignores neglects violates breaks lacks")
_PRAISE = _words(
    "accurate careful clear complete concise correct fair helpful honest kind polite relevant "
    "respectful safe sound specific true truthful useful"
)
_BLAME = _words(
    "biased cruel dangerous deceptive dishonest evasive false harmful hostile inaccurate insulting "
    "manipulative misleading offensive preachy rude toxic unclear unfair unhelpful unkind unsafe "
    "untrue vague verbose wrong"
)
_NEAR = 3
"""Words after a comparative in which what it compares is looked for."""


def reversed_question(question: str, statement: str) -> str:
    """Return the words by which a question asks for the worse response; empty if it does not.

    Such a question flips every label. The answer to it must be the response that keeps *better* to
    the statement: what is asked for may be less or more of something, depending on what the
    statement wants.
    """
    words, wanted = _plain_words(question), _plain_words(statement)
    stems = _stems(wanted)
    lessened = any(word in _LESS for word in words)
    for place, word in enumerate(words):
        compared = words[place + 1 : place + 1 + _NEAR]
        phrase = " ".join(words[place : place + 2])
        if word in _WORSE and not lessened:
            return phrase
        if word in ("more", "most") and any(x in _BLAME for x in compared):
            return phrase
        if word in ("less", "least") and any(x in _PRAISE for x in compared):
            return phrase
        shared = bool(_stems(compared) & stems)
        if forbids(statement):
            if word in ("more", "most") and shared and not lessened:
                return phrase
        elif word in ("less", "least", "fewer", "fewest") and shared:
            return "" if any(x in _LESS | _FEW for x in wanted) else phrase
    if forbids(statement) and not lessened:
        verb = _stems(wanted[2:3] if wanted[:1] == ["do"] else wanted[1:2])
        named = verb & _stems(words)
        return next((word for word in words if _stems([word]) & named), "")
    return ""
