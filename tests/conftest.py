"""For all tests: properties have no deadline, because a busy machine is no failure."""

import signal

from hypothesis import settings

settings.register_profile("rlaif", deadline=None)
settings.load_profile("rlaif")

# A shell starts what it runs in the background deaf to Ctrl-C, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
