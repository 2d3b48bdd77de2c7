"""Rejections: what it means when a server will not do a call, and which error says so."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from rlaif.engines.openai.dialect import complains
from rlaif.engines.traffic.outcomes import TOO_LONG, Rejected
from rlaif.errors import (
    CallFailed,
    EngineError,
    EngineMissing,
    EngineUnavailable,
    KeyRefused,
    ModelUnknown,
)

_FILTER_CODE = re.compile(
    r"content_?filter|content_policy|moderation|responsibleai|safety|data_?inspection"
    r"|prohibited_content|sensitive|policy_violation"
)
_FILTERED = re.compile(
    r"content[ _](?:filter|policy)|content management policy|flagged (?:as|by|for)"
    r"|violat\w+ .{0,60}\b(?:content|safety|usage|use|prompting) polic"
    r"|\b(?:prompts?|content|inputs?|messages?|texts?) .{0,80}violat\w+ .{0,60}polic"
    r"|moderation (?:system|endpoint|policy|filter)|requires moderation"
    r"|blocked by .{0,40}(?:moderation|safety|filter)|safety (?:system|filter|setting)",
    re.IGNORECASE,
)
_ABOUT_FIELDS = re.compile(
    r"(?:un(?:known|supported|recogni[sz]ed|expected)|extra) (?:\w+ )?"
    r"(?:parameter|argument|field|input|option|key|property|properties)",
    re.IGNORECASE,
)
_RESPONSES_ONLY = re.compile(
    r"not a chat model|not supported in the v1/chat/completions|only supported in v1/responses"
    r"|only (?:supports?|available (?:in|through)) the responses",
    re.IGNORECASE,
)
_NEEDED = frozenset({"model", "messages", "input", "logprobs", "top_logprobs", "n"})
NO_LABELS_HINT = (
    "this server gives no log-probabilities: set words: true under the judge's pairwise, or choose "
    "a model whose server does (docs/servers.md)"
)

_NO_MODEL = re.compile(
    r"model_not_found|invalid model name|model\b.{0,200}?\b(not exist|not found)",
    re.IGNORECASE | re.DOTALL,
)
_UNKNOWN_KEY = "no_db_connection"
"""What LiteLLM answers to a key that is not its own, where it has no database to look others up."""


def is_filtered(rejected: Rejected) -> bool:
    """Return whether the server's own filter stopped this prompt: a reply, not an error.

    Its code says so, or its words, where they are not about a field of the request.
    """
    if rejected.status not in (400, 403, 422):
        return False
    if _FILTER_CODE.search(rejected.code):
        return True
    named = [field for field in rejected.fields if field not in ("prompt", "messages", "input")]
    if named or _ABOUT_FIELDS.search(rejected.words):
        return False
    return bool(_FILTERED.search(rejected.words))


def is_about_model(rejected: Rejected) -> bool:
    """Return whether the server may not have the model, or the address may be wrong."""
    said = f"{rejected.code} {rejected.words}"
    return rejected.status == 404 or (rejected.status == 400 and bool(_NO_MODEL.search(said)))


def missing_model(
    rejected: Rejected, *, model: str, base_url: str, served: Sequence[str]
) -> ModelUnknown | None:
    """Return the error for a model that is not served, or None when it is.

    Args:
        rejected: What the server said.
        model: What was asked for.
        base_url: Where.
        served: What /models lists; empty when it lists nothing readable.
    """
    if not served:
        return ModelUnknown(
            f"{base_url} does not answer chat completions for model {model!r}: {rejected.words}",
            hint="check model, and base_url, which usually ends in /v1",
        )
    if is_listed(model, served):
        return None
    return unserved(model, base_url=base_url, served=served)


def is_listed(model: str, served: Sequence[str]) -> bool:
    """Return whether a model is in a list, perhaps by a pattern (LiteLLM's ``openai/*``).

    Gemini lists its models as ``models/NAME`` and serves them as ``NAME``.
    """
    return any(
        name in (model, f"models/{model}") or ("*" in name and fnmatchcase(model, name))
        for name in served
    )


def unserved(model: str, *, base_url: str, served: Sequence[str]) -> ModelUnknown:
    """Return the error for a model that /models does not list, with the nearest name it does."""
    shown = ", ".join(served[:10]) + (", …" if len(served) > 10 else "")
    # Names with and without their owner, in any case, are near each other.
    names = {name.rpartition("/")[2].casefold(): name for name in reversed(served)}
    near = difflib.get_close_matches(model.rpartition("/")[2].casefold(), names, n=1)
    guess = f"did you mean {names[near[0]]!r}? " if near else ""
    return ModelUnknown(
        f"{base_url} does not serve model {model!r}", hint=f"{guess}it serves: {shown}"
    )


def error_of(
    rejected: Rejected, *, base_url: str, key_name: str | None, worked: bool
) -> EngineError:
    """Return the error for a refused call.

    Args:
        rejected: What the server said, without secrets.
        base_url: Where.
        key_name: The environment variable that holds the key, if one is configured.
        worked: Whether this engine has had a good reply before: then a 403 concerns the call, and
            what stops everything else stops a run that can be resumed.
    """
    status, words = rejected.status, rejected.words
    stopped = EngineUnavailable if worked else EngineMissing
    if _RESPONSES_ONLY.search(words):
        return EngineMissing(
            f"{base_url}: {words}", hint="set options.api to responses for this model"
        )
    if status == 401 or (status == 403 and not worked) or _UNKNOWN_KEY in rejected.code:
        refused = EngineUnavailable if worked else KeyRefused
        hint = (
            f"check that the environment variable {key_name} holds a valid key for this server"
            if key_name
            else "name the environment variable that holds its key: api_key_env: NAME"
        )
        return refused(
            f"{base_url} does not accept the key{' any more' if worked else ''} "
            f"(HTTP {status}: {words})",
            hint=f"{hint}; repeat the command to resume" if worked else hint,
        )
    if status in (402, 429):
        return EngineUnavailable(
            f"{base_url}: payment required or quota exhausted (HTTP {status}: {words})",
            hint="check the account's balance and quota; repeat the command to resume",
        )
    if 300 <= status < 400:
        return stopped(
            f"{base_url} redirects (HTTP {status})", hint="set base_url to the final address"
        )
    if (status in (400, 413, 422) or status >= 500) and TOO_LONG.search(f"{rejected.code} {words}"):
        return CallFailed(
            f"{base_url}: {words}",
            kind="context-length",
            hint="shorten the prompt, ask for fewer tokens, or serve a longer context",
        )
    return CallFailed(f"{base_url}: HTTP {status}: {words}", kind=f"http-{status}")


def unsupported(
    rejected: Rejected, body: Mapping[str, Any], *, base_url: str, ours: Collection[str]
) -> EngineError | None:
    """Return the error for a field that the server does not take and that is not given up for it.

    Args:
        rejected: What the server said, without secrets and without the request's own words.
        body: What was sent.
        base_url: Where.
        ours: Fields that the engine sends; others come from the user's options.
    """
    said = f"{base_url}: HTTP {rejected.status}: {rejected.words}"
    labels = r"\blogprobs?\b|log.?probabilities"
    if body.get("logprobs") and complains(rejected, "logprobs", labels):
        return EngineMissing(said, hint=NO_LABELS_HINT)
    named = [
        name
        for name in body
        if name not in _NEEDED
        and complains(rejected, rf"^{re.escape(name)}(\W|$)", rf"\b{re.escape(name)}\b")
    ]
    if not named:
        return None
    omit = " or ".join(f"options.omit: [{name}]" for name in named if name in ours)
    hint = f"set {omit} to leave it out, or choose another value"
    if not omit:
        hint = f"take {' and '.join(named)} out of options.extra_body or sampling.extra"
    return CallFailed(said, kind=f"http-{rejected.status}", hint=hint)
