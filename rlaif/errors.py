"""Errors: everything this package raises on purpose.

    RlaifError                       what, where and how to mend it; never shown with a traceback
    ├── InputError        exit 2     bad input: nothing was started
    │   ├── ConfigError              a configuration file or override (also a ValueError)
    │   ├── ConstitutionError        a constitution file; carries every problem with its position
    │   ├── TemplateError            a Jinja template or the variables given to it
    │   │   └── RenderError          it cannot be filled in with one prompt; becomes a `Failure`
    │   └── RecordError              a prompt file, data set or exported file
    ├── EngineError       exit 1     a model or server could not do what was asked
    │   ├── EngineMissing exit 2     unknown model, missing extra, missing key: nothing started
    │   ├── CallFailed               one call failed for good; becomes a `Failure`, the run goes on
    │   └── EngineUnavailable exit 3 down, or closed to us half-way: the run can be resumed
    ├── RunError          exit 1     the run directory: damaged, full, read-only
    │   ├── RunLocked     exit 2     another process writes to it
    │   └── RunMismatch   exit 2     it holds another plan, or was written by a newer version
    ├── TrainingError     exit 1     training could not go on; what was reached is saved
    ├── StoppedEarly      exit 3     a limit was reached; repeat the command to go on
    └── GateRefused       exit 4     a measured condition was not met

To add one: derive from the class whose exit code fits, keep the message one line of what and where,
and put the way out into ``hint``.
"""

from typing import ClassVar


class RlaifError(Exception):
    """The root of all errors raised on purpose.

    Args:
        message: What went wrong and where, one line, no trailing full stop needed.
        hint: How to mend it, one line; empty when the message already says so.
    """

    exit_code: ClassVar[int] = 1
    """What the command line exits with."""

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
    """A template is malformed, uses an undeclared variable, or was rendered without one."""


class RenderError(TemplateError):
    """A sound template cannot be filled in with what it is given, such as a short conversation.

    The pipeline turns it into a `Failure` of the prompt and goes on.
    """


class RecordError(InputError):
    """A file of records cannot be read as a whole (one bad line is a `Failure`, not this)."""


class EngineError(RlaifError):
    """A model or server could not do what was asked."""


class EngineMissing(EngineError):
    """Unknown model, missing extra, missing key or missing capability, found before starting."""

    exit_code = 2


class CallFailed(EngineError):
    """One call failed for good. The pipeline turns it into a `Failure` and goes on.

    Args:
        message: What the engine said.
        kind: Short machine-readable reason, such as ``context-length`` or ``http-500``.
        attempts: How often the call was tried.
        hint: How to mend it.
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


class EngineUnavailable(EngineError):
    """The server does not answer, or lets us in no more. The run stops; what is done is kept."""

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
    """Training could not go on. Whatever was reached has been saved."""


class StoppedEarly(RlaifError):
    """A limit the user set was reached. Repeat the command to go on."""

    exit_code = 3
    retryable = True


class GateRefused(RlaifError):
    """A measured condition was not met, so the work that depends on it was not done."""

    exit_code = 4
