"""Ctrl-C while training: finish the step, save, stop. A second one stops at once.

An optimiser step that is broken off leaves half-updated weights, so the first signal only leaves a
mark that the training loop looks at between steps.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """A context manager that turns the first SIGINT or SIGTERM into ``asked``.

    Does nothing outside the main thread, where Python delivers no signals; a notebook's interrupt
    then raises KeyboardInterrupt as usual and the last checkpoint stands.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._ask) for name in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)
        self._before = {}
