"""Rejections: what it means when a server will not do a call, and which error says so."""

import re
from collections.abc import Sequence

from rlaif.engines.traffic.outcomes import Rejected
from rlaif.errors import CallFailed, EngineError, EngineMissing, EngineUnavailable

_TOO_LONG = re.compile(
    r"context[ _]length|context[ _]window|maximum context|max_model_len|maximum model length"
    r"|too many (input )?tokens|prompt is too long|input is too long|longer than the maximum",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"content_filter|content_policy|content management policy|moderation|flagged", re.IGNORECASE
)
_NO_MODEL = re.compile(
    r"model_not_found|model\b.{0,200}?\b(not exist|not found)",
    re.IGNORECASE | re.DOTALL,
)


def is_filtered(rejected: Rejected) -> bool:
    """Return whether the server's own filter stopped this prompt: a reply, not an error."""
    said = f"{rejected.code} {rejected.words}"
    return rejected.status in (400, 403, 422) and bool(_FILTERED.search(said))


def is_about_model(rejected: Rejected) -> bool:
    """Return whether the server may not have the model, or the address may be wrong."""
    said = f"{rejected.code} {rejected.words}"
    return rejected.status == 404 or (rejected.status == 400 and bool(_NO_MODEL.search(said)))


def missing_model(
    rejected: Rejected, *, model: str, base_url: str, served: Sequence[str]
) -> EngineMissing | None:
    """Return the error for a model that is not served, or None when it is.

    Args:
        rejected: What the server said.
        model: What was asked for.
        base_url: Where.
        served: What /models lists; empty when it lists nothing readable.
    """
    if not served:
        return EngineMissing(
            f"{base_url} does not answer chat completions for model {model!r}: {rejected.words}",
            hint="see that base_url is right; it usually ends in /v1",
        )
    if model in served:
        return None
    shown = ", ".join(served[:10]) + (", …" if len(served) > 10 else "")
    return EngineMissing(f"{base_url} does not serve model {model!r}", hint=f"it serves: {shown}")


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
    if status == 401 or (status == 403 and not worked):
        hint = (
            f"see that the environment variable {key_name} holds a valid key for this server"
            if key_name
            else "name the environment variable that holds its key: api_key_env: NAME"
        )
        return stopped(
            f"{base_url} does not accept the key{' any more' if worked else ''} "
            f"(HTTP {status}: {words})",
            hint=f"{hint}; repeat the command to go on where it stopped" if worked else hint,
        )
    if status in (402, 429):
        return EngineUnavailable(
            f"{base_url} wants money (HTTP {status}: {words})",
            hint="settle the account; repeat the command to go on where it stopped",
        )
    if 300 <= status < 400:
        return stopped(
            f"{base_url} redirects (HTTP {status})", hint="set base_url to the final address"
        )
    if status in (400, 413, 422) and _TOO_LONG.search(f"{rejected.code} {words}"):
        return CallFailed(
            f"{base_url}: {words}",
            kind="context-length",
            hint="shorten the prompt, ask for fewer tokens, or serve a longer context",
        )
    return CallFailed(f"{base_url}: HTTP {status}: {words}", kind=f"http-{status}")
