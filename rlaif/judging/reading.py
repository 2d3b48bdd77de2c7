"""Reading: what a reply's labels or words say, and when they say nothing."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson

from rlaif.engines import Reply
from rlaif.records import Choice

REFUSED_REASON = "refused"
FAILED_REASON = "failed"
UNREADABLE_REASON = "unreadable"
LOW_MASS_REASON = "low-mass"
IRRELEVANT_REASON = "not-relevant"

NO_REPLY = Reply()
"""Stands for the reply to a call that failed for good."""

_KEYS = ("answer", "better", "choice", "preference", "verdict", "winner")
"""Keys under which judges put a verdict when they reply in JSON."""

_NOUN = r"(?:answer|choice|option|preference|response|verdict|winner)"
_LEAD = (
    r"(?:so|thus|therefore|overall|final|finally|in conclusion|the|my|is|i choose|i prefer|"
    rf"i pick|better|best|preferred|{_NOUN})"
)
_VERDICT = re.compile(
    rf"(?:{_LEAD}[\s,:=\-]*)*"
    r"(?P<name>[a-z0-9]+)"
    rf"(?:\s+is\s+(?:the\s+)?(?:better|best|preferred)(?:\s+(?:one|{_NOUN}))?)?",
    re.IGNORECASE,
)
_ORNAMENT = re.compile(r"[*_`#>\[\](){}\"'“”‘’.!]+")
_CODE = re.compile(r"```[a-z]*\n(.*?)\n?```", re.DOTALL | re.IGNORECASE)
_REFUSAL = re.compile(
    r"\W*(?:(?:i(?:['’]m| am) )?(?:very |so )?sorry\b"
    r"|i(?:['’]m| am) (?:not able|unable|not comfortable|not going to)\b"
    r"|i (?:can(?:no|['’])t|cannot|won['’]t|will not|must decline|decline)\b"
    r"|unfortunately,? i\b|as an ai\b)",
    re.IGNORECASE,
)


_LONGEST_VERDICT = 1_000
"""Characters of a line that can be a verdict; matching grows with the square of them."""


def parse_choice(text: str, menu: Sequence[str]) -> str | None:
    """Return the entry of the menu that a judge's words decide for, or None.

    Servers that can are made to reply from the menu. Others write what they like, so the form is
    read tolerantly and the place strictly: only the last line counts, and all of it must be the
    verdict. A reply that names a choice somewhere and then ends in something else has not
    decided.

    Args:
        text: The whole reply.
        menu: The allowed verdicts, such as ("A", "B"); case does not matter.
    """
    stripped = text.strip()
    blocks = _CODE.findall(stripped)
    inside = blocks[-1] if blocks and stripped.endswith("```") else stripped
    if inside.lstrip().startswith("{"):
        return _on_menu(_from_json(inside), menu)
    lines = [line for line in inside.splitlines() if line.strip()]
    if not lines:
        return None
    return _on_menu(_named(_ORNAMENT.sub(" ", lines[-1]).strip(" \t,:;-")), menu)


def is_refusal(text: str) -> bool:
    """Whether a reply opens like one that declines to answer."""
    return _REFUSAL.match(text) is not None


def _from_json(text: str) -> str | None:
    """The value under the one known key of a JSON object; None when there are several or none."""
    try:
        read = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(read, dict):
        return None
    found = [value for key, value in read.items() if key.lower() in _KEYS]
    if len(found) != 1 or not isinstance(found[0], str):
        return None
    return _named(_ORNAMENT.sub(" ", found[0]))


def _named(line: str) -> str | None:
    """The choice that a whole line, without ornaments, decides for."""
    words = " ".join(line.split())
    match = _VERDICT.fullmatch(words) if len(words) <= _LONGEST_VERDICT else None
    return match["name"] if match else None


def _on_menu(name: str | None, menu: Sequence[str]) -> str | None:
    if name is None:
        return None
    return next((entry for entry in menu if entry.casefold() == name.casefold()), None)


_SMALLEST_REST = 2.0**-24
"""Servers report log-probabilities as float32: one of 0.0 means 1 − p is below this."""

_ROUNDING = 0.01
"""A log-probability above this is not one, and is ignored."""

_TOLERANCE = 0.5
"""How far, in points, labels that were not reported may move an expected score."""


@dataclass(frozen=True, slots=True)
class LabelReading:
    """What one reply says about A against B."""

    choice: Choice
    logit: float | None = None
    """Log-odds of A against B; None when it abstains, and when only words were read."""

    mass: float | None = None
    """Probability of A and B together, as far as reported."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """The expected value of a label that is a number."""

    value: float | None = None
    """None when it abstains."""

    mass: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Shares:
    """How probable each of several labels is, as far as the reply says."""

    of: Mapping[int, float] = field(default_factory=dict)
    """Index of a label to its probability; empty when the judge abstains."""

    hidden: float = 0.0
    """The most that the labels which were not reported can have together."""

    mass: float | None = None
    reason: str = ""


def read_labels(reply: Reply, *, min_mass: float = 0.0) -> LabelReading:
    """Read the log-probabilities of two labels, A the first and B the second that was asked for.

    When a server reports only its most likely tokens and just one label is among them, the other
    has at most the rest, ``1 − p``. If that rest is below ½ the reported label is certainly the
    likelier one, and ``log p/(1 − p)`` is taken: the smallest log-odds that the reply allows. Else
    the reply does not say which is likelier, and the judge abstains.
    """
    reason = unanswered(reply)
    if reason:
        return LabelReading(Choice.ABSTAIN, reason=reason)
    known = _known(reply, 2)
    if not known:
        return LabelReading(Choice.ABSTAIN, reason=UNREADABLE_REASON)
    mass = min(1.0, sum(map(math.exp, known.values())))
    if mass < min_mass:
        return LabelReading(Choice.ABSTAIN, mass=mass, reason=LOW_MASS_REASON)
    if len(known) == 2:
        logit = known[0] - known[1]
    elif mass <= 0.5:
        return LabelReading(Choice.ABSTAIN, mass=mass, reason=UNREADABLE_REASON)
    else:
        least = math.log(mass) - math.log(max(1.0 - mass, _SMALLEST_REST))
        logit = least if 0 in known else -least
    return LabelReading(choose(logit), logit, mass)


def read_or_neither(reply: Reply, *, min_mass: float = 0.0) -> LabelReading:
    """Read A and B as `read_labels` does, beside a third label that says neither.

    When it is likelier than A and B together, the judge abstains: the question does not apply.
    """
    known = _known(reply, 3)
    mass = min(1.0, sum(map(math.exp, known.values())))
    if known and mass >= min_mass and math.exp(known.get(2, -math.inf)) > mass / 2.0:
        return LabelReading(Choice.ABSTAIN, mass=mass, reason=IRRELEVANT_REASON)
    if known and mass < min_mass:
        return LabelReading(Choice.ABSTAIN, mass=mass, reason=LOW_MASS_REASON)
    two = replace(reply, label_logprobs=reply.label_logprobs[:2])
    return replace(read_labels(two), mass=mass if known else None)


def read_expected(reply: Reply, *, labels: int, min_mass: float = 0.0) -> Expected:
    """Read the expected value of labels that stand for the numbers 1 to ``labels``.

    ``Σ i·P(i)`` over the labels, their probabilities normalised to sum to 1. A server that reports
    only its most likely tokens may leave labels out. Each of those is less likely than every token
    that was reported, and together they have at most the rest; when they could still move the
    value by half a point, the reply does not say it and the judge abstains.
    """
    read = read_shares(reply, labels=labels, min_mass=min_mass)
    if read.reason:
        return Expected(mass=read.mass, reason=read.reason)
    total = sum(read.of.values())
    if read.hidden * (labels - 1) > _TOLERANCE * (total + read.hidden):
        return Expected(mass=read.mass, reason=UNREADABLE_REASON)
    value = sum((index + 1) * share for index, share in read.of.items()) / total
    return Expected(value, read.mass)


def read_shares(reply: Reply, *, labels: int, min_mass: float = 0.0) -> Shares:
    """Read the probabilities of several labels, and how much those left out may have."""
    reason = unanswered(reply)
    if reason:
        return Shares(reason=reason)
    shares = {index: math.exp(logprob) for index, logprob in _known(reply, labels).items()}
    if not shares:
        return Shares(reason=UNREADABLE_REASON)
    total = sum(shares.values())
    if total == 0.0:
        return Shares(mass=0.0, reason=UNREADABLE_REASON)
    mass = min(1.0, total)
    if mass < min_mass:
        return Shares(mass=mass, reason=LOW_MASS_REASON)
    # Twice the least: a label counts with and without a leading space, and each may be left out.
    hidden = min(1.0 - mass, 2.0 * (labels - len(shares)) * min(shares.values()))
    return Shares(shares, hidden, mass)


def read_word(
    text: str, menu: Sequence[str] = ("A", "B"), *, cut_off: bool = False
) -> LabelReading:
    """Read from a judge's words which of two responses is better.

    Args:
        text: The whole reply.
        menu: The verdicts for A and for B; a third one says that the question does not apply.
        cut_off: It reached its most tokens: its last line may be the beginning of another verdict.
    """
    name = None if cut_off else parse_choice(text, menu)
    if name is not None and name not in menu[:2]:
        return LabelReading(Choice.ABSTAIN, reason=IRRELEVANT_REASON)
    if name is not None:
        return LabelReading(Choice.A if name == menu[0] else Choice.B)
    reason = REFUSED_REASON if is_refusal(text) else UNREADABLE_REASON
    return LabelReading(Choice.ABSTAIN, reason=reason)


def unanswered(reply: Reply) -> str:
    """Return why nothing can be read from a reply, whatever was asked; empty for an answer."""
    if reply is NO_REPLY:
        return FAILED_REASON
    return REFUSED_REASON if reply.finish == "refusal" else ""


def no_text_reason(reply: Reply) -> str:
    """Return why a text that was asked for cannot be used; empty when it can."""
    reason = unanswered(reply)
    if reason:
        return reason
    if not reply.text.strip():
        return UNREADABLE_REASON
    return REFUSED_REASON if is_refusal(reply.text) else ""


def read_together(readings: Sequence[LabelReading | Expected]) -> tuple[str, float | None]:
    """Return why several readings of one verdict say nothing, and the least of their label masses.

    The reason is the first one's that has one; the mass is unknown when any is.
    """
    reason = next((one.reason for one in readings if one.reason), "")
    masses = [one.mass for one in readings if one.mass is not None]
    return reason, min(masses) if len(masses) == len(readings) else None


def choose(logit: float) -> Choice:
    """Return the side that log-odds of A are on; exactly 0 is a tie."""
    if logit == 0.0:
        return Choice.TIE
    return Choice.A if logit > 0.0 else Choice.B


def _known(reply: Reply, count: int) -> dict[int, float]:
    """Index to log-probability of every label that was reported."""
    return {
        index: logprob
        for index, logprob in enumerate(reply.label_logprobs[:count])
        if logprob is not None and math.isfinite(logprob) and logprob <= _ROUNDING
    }
