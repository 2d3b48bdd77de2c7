"""What the log of a vLLM server says: its last lines, and why it ended."""

import re
from pathlib import Path

from rlaif.config import nearest
from rlaif.embedded import SHIPPED
from rlaif.errors import ConfigError, EngineError, EngineMissing

_LAST_LINES = 15
_TAIL_BYTES = 2000
_UNKNOWN_MODEL = re.compile(
    r"is not a local folder and is not a valid model identifier|Repository Not Found|"
    r"Can't load the configuration of|couldn't connect to .*huggingface|LocalEntryNotFoundError|"
    r"HFValidationError|OfflineModeIsEnabled"
)
_UNKNOWN_ARGUMENT = re.compile(r"unrecognized arguments: (.+)")
_ERROR = re.compile(r"\b([A-Z]\w*(?:Error|Exception)): (.+)")


def last_lines(log: Path, start: int = 0) -> str:
    """Return the end of a log from byte ``start``, each line marked as quoted."""
    lines = _words(log, start).splitlines()[-_LAST_LINES:]
    return "\n".join(f"  | {line}" for line in lines)


def last_line(log: Path, start: int = 0) -> str:
    """Return the last line that says anything; cheap however long the log is."""
    lines = _words(log, max(start, log.stat().st_size - _TAIL_BYTES)).split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def why_it_ended(
    log: Path, *, start: int, model: str, version: str, status: int | None
) -> EngineError | ConfigError:
    """Return the error that tells a user why a server ended while starting."""
    words = _words(log, start)
    whole = f"its whole log is {log}"
    if _UNKNOWN_MODEL.search(words):
        return EngineMissing(
            f"there is no model {model!r}: neither shipped, nor a folder, nor to be had from the "
            f"hub{nearest(model, sorted(SHIPPED))}",
            hint=f"check the name, or the network if it is a hub id; {whole}",
        )
    unknown = _UNKNOWN_ARGUMENT.search(words)
    if unknown:
        found = version or "of this version"
        return ConfigError(f"vLLM {found} does not know {unknown[1].strip()}", hint=whole)
    # The first error is the cause; the later ones are who noticed it.
    first = _ERROR.search(words)
    cause = f": {first[1]}: {first[2].strip()}" if first else ""
    return EngineError(
        f"the vLLM server ended while starting (exit status {status}){cause}\n"
        f"the last lines of its log:\n{last_lines(log, start)}",
        hint=whole,
    )


def _words(log: Path, start: int) -> str:
    with log.open("rb") as handle:
        handle.seek(start)
        return handle.read().decode(errors="replace")
