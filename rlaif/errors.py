"""Errors: everything this package raises on purpose.

    RlaifError                       what, where and how to fix it; never shown with a traceback
    ├── InputError        exit 2     bad input: nothing was started
    │   ├── ConfigError              a configuration file or override (also a ValueError)
    │   ├── ConstitutionError        a constitution file; carries every problem with its position
    │   ├── TemplateError            a Jinja template or its variables
    │   │   └── RenderError          it cannot be rendered for one prompt; becomes a `Failure`
    │   └── RecordError              a prompt file, data set or exported file
    ├── EngineError       exit 1     a model or server could not do the work
    │   ├── EngineMissing exit 2     unknown model, missing extra, missing key: nothing started
    │   │   ├── KeyRefused           the server does not accept the key
    │   │   └── ModelUnknown         the server does not serve the model
    │   ├── CallFailed               one call failed for good; becomes a `Failure`
    │   ├── NothingSucceeded         the first calls of a kind all failed for the same reason
    │   └── EngineUnavailable exit 3 down, or access was revoked half-way: the run can be resumed
    ├── RunError          exit 1     the run directory: damaged, full, read-only
    │   ├── RunLocked     exit 2     another process writes to it
    │   └── RunMismatch   exit 2     it holds another plan, or was written by a newer version
    ├── TrainingError     exit 1     training failed; the progress so far is saved
    ├── StoppedEarly      exit 3     a limit was reached; repeat the command to resume
    ├── TooManyFailed     exit 5     finished, but too large a share of the calls failed
    └── GateRefused       exit 4     a measured condition was not met

To add one: derive from the class whose exit code fits, keep the message to one line of what and
where, and put how to fix it into ``hint``.
"""

from typing import ClassVar


class RlaifError(Exception):
    """The root of all errors raised on purpose.

    Args:
        message: What went wrong and where, one line, no trailing full stop needed.
        hint: How to fix it, one line; empty if the message already says so.
    """

    exit_code: ClassVar[int] = 1
    """The exit code of the command line."""

    retryable: ClassVar[bool] = False
    """Whether the same command may succeed when repeated unchanged."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[RlaifError], message: str, hint: str) -> RlaifError:
    """Unpickle an error in another process; a plain function because ``hint`` is keyword-only."""
    return kind(message, hint=hint)


class InputError(RlaifError, ValueError):
    """Bad input, found before anything was started or written."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration file or a ``--set`` override is wrong."""


class ConstitutionError(InputError):
    """A constitution file cannot be used. The message lists every problem as file:line:column."""


class TemplateError(InputError):
    """A template is invalid, uses an undeclared variable, or is missing a value."""


class RenderError(TemplateError):
    """A valid template cannot be rendered with these values, such as a short conversation.

    The pipeline turns it into a `Failure` of the prompt and continues.
    """


class RecordError(InputError):
    """A file of records cannot be read as a whole (one bad line is a `Failure`, not this)."""


class EngineError(RlaifError):
    """A model or server could not do the work."""


class EngineMissing(EngineError):
    """Unknown model, missing extra, missing key or missing capability, found before starting."""

    exit_code = 2


class KeyRefused(EngineMissing):
    """The server does not accept the key, and has not answered a call with it."""


class ModelUnknown(EngineMissing):
    """The server does not serve the model."""


class CallFailed(EngineError):
    """One call failed for good. The pipeline turns it into a `Failure` and continues.

    Args:
        message: The engine's message.
        kind: Short machine-readable reason, such as ``context-length`` or ``http-500``.
        attempts: How often the call was tried.
        hint: How to fix it.
    """

    def __init__(
        self, message: str, *, kind: str = "error", attempts: int = 1, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.attempts = attempts

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_call_failed, (self.message, self.kind, self.attempts, self.hint))


def _rebuild_call_failed(message: str, kind: str, attempts: int, hint: str) -> CallFailed:
    return CallFailed(message, kind=kind, attempts=attempts, hint=hint)


class NothingSucceeded(EngineError):
    """The first calls of a kind all failed for the same reason. The run stops; it can be resumed.

    Waiting does not help: the configuration must change.
    """


class EngineUnavailable(EngineError):
    """The server is down or denies access. The run stops; finished work is kept."""

    exit_code = 3
    retryable = True


class RunError(RlaifError):
    """The run directory is damaged, full or read-only."""


class RunLocked(RunError):
    """Another process is writing to this run."""

    exit_code = 2
    retryable = True


class RunMismatch(RunError):
    """The run directory holds another plan, or was written by a newer version."""

    exit_code = 2


class TrainingError(RlaifError):
    """Training failed. The progress so far is saved."""


class StoppedEarly(RlaifError):
    """A limit set by the user was reached. Repeat the command to resume."""

    exit_code = 3
    retryable = True


class TooManyFailed(RlaifError):
    """The work ended, but a larger share of it failed than the file accepts; it can be resumed."""

    exit_code = 5


class GateRefused(RlaifError):
    """A measured condition was not met, so the work that depends on it was not started."""

    exit_code = 4
