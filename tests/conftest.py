"""For all tests: properties have no deadline, because a busy machine is no failure."""

from hypothesis import settings

settings.register_profile("rlaif", deadline=None)
settings.load_profile("rlaif")
