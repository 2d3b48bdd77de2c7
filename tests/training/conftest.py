"""One tiny model for all tests that only read it."""

from pathlib import Path

import pytest

from tests.training.tiny import make_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))
