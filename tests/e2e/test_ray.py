"""The Ray executor for real: the same rows, workers killed, stopped and resumed, either way."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.errors import ConfigError
from rlaif.runs import open_run
from tests.e2e.project import COMMAND, rlaif as command, row_bytes, write_project

ray = pytest.importorskip("ray", reason="Ray is not installed")
import ray.data  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    # Ray's own, on whatever Python and pandas it runs with.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PORTIONS = {"workers": 2, "portion": 4, "cpus": 0.5}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for all tests of this file."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
        _node_ip_address="127.0.0.1",
    )
    yield
    ray.shutdown()


def test_ray_gives_the_same_rows_as_one_process(tmp_path: Path, cluster: None):
    student: dict[str, Any] = {"engine": "scripted", "model": "echo", "sampling": {"n": 2}}
    student["options"] = {"failure_rate": 0.2}
    config = write_project(tmp_path, student=student, ray=PORTIONS)
    here = rlaif.generate(config)
    there = rlaif.generate(config, overrides={"out": str(tmp_path / "ray")}, executor="ray")
    assert row_bytes(there.path) == row_bytes(here.path)
    assert {f.record_id: f for f in there.failures()} == {f.record_id: f for f in here.failures()}
    one, other = here.status(), there.status()
    assert (other.rows, other.failed, other.state) == (one.rows, one.failed, "finished")
    assert other.calls == one.calls
