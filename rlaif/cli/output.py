"""The one place where the command line prints, so that no text from elsewhere drives the terminal.

Import `print` from here: `ruff` refuses the built-in one in this package.
"""

import logging
import sys
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import orjson

from rlaif.runs.text import fix_json, safe_json, safe_text

if TYPE_CHECKING:
    from rich.console import Console


def print(
    *values: object, end: str = "\n", file: TextIO | None = None, flush: bool = False
) -> None:
    """Print like the built-in function, with control characters written as escapes."""
    stream = file or sys.stdout
    stream.write(safe_text(" ".join(map(str, values))) + end)
    if flush:
        stream.flush()


def say(text: str, *, file: TextIO | None = None) -> None:
    """Print what is one line, whatever line ends the values in it hold."""
    print(text.replace("\r", "\\r").replace("\n", "\\n"), file=file)


def print_json(value: Any, *, option: int = 0) -> None:
    """Print one JSON object on a line of stdout; control characters in it are JSON escapes."""
    data = safe_json(orjson.dumps(fix_json(value), option=option))
    sys.stdout.flush()
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


def make_console(**options: Any) -> "Console":
    """Return a Rich console of which only its own styles and cursor movements reach the terminal.

    Args:
        options: Those of `rich.console.Console`.
    """
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class SafeConsole(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield (
                    segment if segment.control else Segment(safe_text(segment.text), segment.style)
                )

    return SafeConsole(**options)


def make_diagnostics_safe() -> None:
    """Let log records and tracebacks through here too: they quote servers and files."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_SafeFormatter())
    sys.excepthook = _print_exception


class _SafeFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return safe_text(super().format(record))


def _print_exception(
    kind: type[BaseException], problem: BaseException, trace: TracebackType | None
) -> None:
    print("".join(traceback.format_exception(kind, problem, trace)), end="", file=sys.stderr)
