"""For all tests: properties have no deadline, because a busy machine is no failure."""

import signal
import socket
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("rlaif", deadline=None)
settings.load_profile("rlaif")

# A shell starts what it runs in the background deaf to Ctrl-C, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port at which connections are refused; kept, so that nobody else gets it meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])
