"""Dialect: what one server turned out to take, and what is sent instead of what it does not.

One table, `FEATURES`: a field of the request, how a refusal of it is recognised (the fields and
codes that a server names come before its words), and what to send next. The engine sends in full,
learns from the refusal, and sends again: one refusal costs one call. Nothing here reaches a ledger
key, and log-probabilities are never given up: without them a judge must be told to read words.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlaif.engines.openai.options import OpenAIOptions
from rlaif.engines.traffic.outcomes import Rejected
from rlaif.engines.turns import fold_system

log = logging.getLogger(__name__)

Body = dict[str, Any]
OMITTED = "omitted"
FOLDED = "folded"

_STATUSES = frozenset({400, 403, 404, 405, 422, 501})
_UNSUPPORTED = (
    r"un(?:supported|known|recogni[sz]ed|expected)|not (?:currently |yet )?(?:supported|permitted"
    r"|allowed|available|enabled|implemented|recogni[sz]ed)|(?:does ?n[o']t|do not|don't|can ?not"
    r"|can't) (?:support|accept|allow|find field)|extra (?:inputs?|fields?)|extraneous|is invalid"
    r"|invalid (?:parameter|argument|field)|isn't supported|removed|deprecated|disabled"
    r"|extra_forbidden|must not be|unavailable"
    r"|can ?not both|roles must alternate"
)
_LIMITED = (
    r"must be|at most|exceeds?|(?:greater|more|less|larger|higher) than|maximum|above|between"
    r"|range|up to|<=|≤|requires"
)
_ABOUT_A_VALUE = re.compile(
    r"at (?:most|least)|exceeds?|\btoo (?:many|long|large|big|small|short)|out of range|\bbetween\b"
    r"|(?:greater|more|less|fewer|larger|higher|lower|longer) than|up to \d|<=|>=|≤|≥|maximum"
    r"|must be (?:an? )?(?:\w+ )?(?:integer|positive|non-?negative|string|array|list|in\b|within)"
    r"|(?:invalid|not a valid) (?:value|integer|string|length)|non-?empty|not be (?:empty|blank)"
    r"|minimum",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Feature:
    """A field that not every server takes."""

    name: str
    """In the body, and in what was learned."""

    words: str
    """What it is called in the words of servers, as a pattern."""

    next: Callable[[Rejected, Body, Any], Any]
    """What to do, from the refusal, the body and what was done before; None: nothing is left."""

    apply: Callable[[Body, Any], None]
    """Changes a body accordingly."""

    uses: Callable[[Body], bool]
    """Whether a body asks for it."""

    limits: bool = True
    """Whether a complaint about its value, too, is one about the field."""

    any_value: bool = False
    """Whether a complaint about its value is one about a setting, and teaches nothing."""

    fields: str = ""
    """What servers call it where they name fields, as a pattern; its name when empty."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a refusal taught."""

    name: str
    what: Any
    before: Any
    """What was done until then; None: nothing."""

    why: str


def _omit_once(_rejected: Rejected, _body: Body, done: Any) -> str | None:
    return OMITTED if done is None else None


def _fold_once(rejected: Rejected, _body: Body, done: Any) -> str | None:
    if re.search(r"\b(?:empty|blank)\b", rejected.words, re.IGNORECASE):
        return None  # this text is at fault, and not that there is one
    return FOLDED if done is None else None


def _drop(name: str) -> Callable[[Body, Any], None]:
    return lambda body, _: body.pop(name, None)


def _has(name: str) -> Callable[[Body], bool]:
    return lambda body: name in body


def _other_limit(_rejected: Rejected, body: Body, done: Any) -> str | None:
    if done is not None:
        return None
    return "max_completion_tokens" if "max_tokens" in body else "max_tokens"


def _rename_limit(body: Body, name: str) -> None:
    other = "max_tokens" if name == "max_completion_tokens" else "max_completion_tokens"
    if other in body:
        body[name] = body.pop(other)


def _lower_ceiling(rejected: Rejected, body: Body, _done: Any) -> int | None:
    """Take the limit that the server names, else the next of those that servers have."""
    now = int(body["top_logprobs"])
    if not re.search(_LIMITED, rejected.words, re.IGNORECASE):
        return None  # it has none at all
    numbers = re.findall(r"(?<![\w.-])\d{1,4}(?![\w-]|\.\d)", rejected.words)
    named = [number for number in map(int, numbers) if 1 <= number < now]
    if named:
        return max(named)
    return next((limit for limit in (20, 8, 5) if limit < now), None)


def _cap(body: Body, ceiling: int) -> None:
    if "top_logprobs" in body:
        body["top_logprobs"] = min(body["top_logprobs"], ceiling)


def _looser_format(rejected: Rejected, body: Body, done: Any) -> str | None:
    form = body["response_format"]
    enveloped = form.get("json_schema", {}).get("schema", {}).get("properties", {}).keys()
    if enveloped != {"choice"} and re.search(r"invalid (?:json )?schema", rejected.words, re.I):
        return None  # this schema is at fault, and not that there is one
    if form.get("type") == "json_schema" and done is None and enveloped != {"choice"}:
        return "json_object"
    return OMITTED  # without its schema, an object around a choice would have any form


def _set_format(body: Body, form: str) -> None:
    if form == OMITTED:
        body.pop("response_format", None)
    elif "response_format" in body:
        body["response_format"] = {"type": form}


def _fold(body: Body, _: Any) -> None:
    body["messages"] = fold_system(body["messages"])


def _has_system(body: Body) -> bool:
    return bool(body["messages"]) and body["messages"][0]["role"] == "system"


FEATURES: tuple[Feature, ...] = (
    Feature(
        "seed", r"\bseed\b", _omit_once, _drop("seed"), _has("seed"), limits=False, any_value=True
    ),
    Feature(
        "n",
        r"['\"`“]n['\"`”]|\bn (?:must|should|is|>|=|value)|parameter:? n\b|\bn:|[:=] n\b|multiple "
        r"(?:choices|completions|samples|responses)|(?:only|exactly) one (?:choice|completion)",
        _omit_once,
        _drop("n"),
        _has("n"),
    ),
    Feature(
        "stop",
        r"['\"`“]stop['\"`”]|\bstop (?:sequences?|strings?|words?|parameter|tokens?)\b"
        r"|parameter:? stop\b|\bstop:|[:=] stop\b|stop_sequences",
        _omit_once,
        _drop("stop"),
        _has("stop"),
        limits=False,
        any_value=True,
    ),
    Feature(
        "top_logprobs",
        r"\btop_logprobs\b|sample logprobs|max_logprobs|\bn_probs\b",
        _lower_ceiling,
        _cap,
        _has("top_logprobs"),
    ),
    Feature(
        "response_format",
        r"response_format|json_schema|json_object|structured[ _]outputs?|\bgrammar\b|guided"
        r"|\bschema\b",
        _looser_format,
        _set_format,
        _has("response_format"),
        fields=r"^(response_format|text\.format)",
    ),
    Feature(
        "max_tokens",
        r"\bmax_(?:completion_)?tokens\b",
        _other_limit,
        _rename_limit,
        lambda body: "max_tokens" in body or "max_completion_tokens" in body,
        limits=False,
        fields=r"^max_(completion_)?tokens$",
    ),
    Feature(
        "system",
        r"system[ _]?(?:role|message|prompt|instruction)s?|role.{0,12}system|system.{0,8} role"
        r"|developer instruction|conversation (?=roles must alternate)",
        _fold_once,
        _fold,
        _has_system,
        limits=False,  # a system text that is too long must not fold every other one
        fields=r"^messages\W+0\W*(role)?$",
    ),
)
_BY_NAME: Mapping[str, Feature] = {feature.name: feature for feature in FEATURES}


def complains(rejected: Rejected, name: str, words: str, *, limits: bool = True) -> bool:
    """Return whether a refusal is about a field.

    Args:
        rejected: What the server said, without what it repeats of the request.
        name: A pattern of the field's name, where the server names fields.
        words: A pattern of what it is called in words.
        limits: Whether a complaint about its value counts.
    """
    if rejected.status not in _STATUSES:
        return False
    complaint = f"{_UNSUPPORTED}|{_LIMITED}|invalid" if limits else _UNSUPPORTED
    said = f"{rejected.code} {rejected.words}"
    if rejected.fields:
        named = any(re.search(name, one) for one in rejected.fields)
        return named and bool(re.search(complaint, said, re.IGNORECASE))
    near = rf"(?:{words}).{{0,120}}?(?:{complaint})|(?:{complaint}).{{0,80}}?(?:{words})"
    return bool(re.search(near, rejected.words, re.IGNORECASE | re.DOTALL))


class Dialect:
    """What is sent to one server.

    Args:
        options: What the user says about it.
        max_tokens_field: The field that takes the limit of a reply.
        who: Its address, for the log.
    """

    def __init__(self, options: OpenAIOptions, *, max_tokens_field: str, who: str) -> None:
        self._who = who
        self.learned: dict[str, Any] = {}
        """What the server does not take, and what is done instead; by field."""

        self.max_tokens_field = max_tokens_field
        configured: dict[str, Any] = {}
        if not options.supports_seed:
            configured["seed"] = OMITTED
        if not options.supports_n:
            configured["n"] = OMITTED
        if options.system == "fold":
            configured["system"] = FOLDED
        configured |= {name: OMITTED for name in options.omit if name in ("seed", "n", "stop")}
        self._done = configured
        self._fixed = frozenset({"system"} if options.system == "send" else ())
        self._omit = tuple(name for name in options.omit if name not in configured)
        self._rename = dict(options.rename)
        self._offers_n = "n" not in configured
        self._plain = False
        self._settle()

    @property
    def offers_n(self) -> bool:
        """Whether several samples may be asked for in one call, as far as the options say."""
        return self._offers_n

    def leave_out(self, name: str) -> None:
        """Never send a field: nothing was learned, it is known."""
        self._done[name] = OMITTED
        self._offers_n = self._offers_n and name != "n"
        self._settle()

    def takes(self, name: str) -> bool:
        """Return whether a field is sent, as far as is known."""
        return name not in self._done

    def shape(self, body: Body) -> Body:
        """Return the body as this server takes it; the same one when it takes everything."""
        if self._plain:
            return body
        shaped = dict(body)
        for name, what in self._done.items():
            feature = _BY_NAME[name]
            if feature.uses(shaped):
                feature.apply(shaped, what)
        for name in self._omit:
            shaped.pop(name, None)
        for name, other in self._rename.items():
            if name in shaped:
                shaped[other] = shaped.pop(name)
        return shaped

    def learn(self, rejected: Rejected, body: Body) -> Lesson | None:
        """Learn from a refusal what to send from now on; None when it teaches nothing.

        Until `confirm` it is an assumption: a call that is refused again takes it back.

        Args:
            rejected: What the server said.
            body: Before it was shaped.
        """
        for feature in FEATURES:
            if feature.name in self._fixed or not feature.uses(body):
                continue
            if feature.any_value and _ABOUT_A_VALUE.search(rejected.words):
                continue
            name = feature.fields or rf"^{self._rename.get(feature.name, feature.name)}(\W|$)"
            words = feature.words
            if feature.name in self._rename:
                words = rf"{words}|\b{re.escape(self._rename[feature.name])}\b"
            if not complains(rejected, name, words, limits=feature.limits):
                continue
            now = dict(body)
            done = self._done.get(feature.name)
            if done is not None:
                feature.apply(now, done)
            what = feature.next(rejected, now, done) if feature.uses(now) else None
            if what is not None:
                self._done[feature.name] = what
                self._settle()
                return Lesson(feature.name, what, done, rejected.words)
        return None

    def confirm(self, lessons: Sequence[Lesson]) -> None:
        """Note what helped."""
        for one in lessons:
            if self._done.get(one.name) == one.what:
                self.note(one.name, one.what, one.why)

    def take_back(self, lessons: Sequence[Lesson]) -> None:
        """Forget what did not help, unless another call noted the same."""
        for one in reversed(lessons):
            if self._done.get(one.name) != one.what or self.learned.get(one.name) == one.what:
                continue
            if one.before is None:
                del self._done[one.name]
            else:
                self._done[one.name] = one.before
        self._settle()

    def looser_formats(self, body: Body) -> list[str]:
        """Return what may be asked for instead of a body's format, the nearest first."""
        found: list[str] = []
        done = self._done.get("response_format")
        while done != OMITTED:
            done = _looser_format(Rejected(500, "", ""), body, done)
            found.append(str(done))
        return found

    def with_format(self, body: Body, form: str) -> Body:
        """Return a body as this server takes it, and with this format for once."""
        changed = dict(body)
        _set_format(changed, form)
        return self.shape(changed)

    def note(self, name: str, what: Any, why: str) -> None:
        """Note what is done from now on, and say so once."""
        if self.learned.get(name) == what:
            return
        self.learned[name] = self._done[name] = what
        self._settle()
        because = f" ({why[:200]})" if why else ""
        log.warning("%s does not take %s%s: from now on %s", self._who, name, because, _told(what))

    def _settle(self) -> None:
        self._plain = not (self._done or self._omit or self._rename)


def _told(what: Any) -> str:
    if what == OMITTED:
        return "it is left out"
    return "it goes into the first user turn" if what == FOLDED else f"{what} is sent"
