from typing import Any

import pytest

from rlaif.config import RunConfig, load_config
from rlaif.engines.openai.options import read_options
from rlaif.errors import ConfigError
from rlaif.pipeline.build import build_parts
from rlaif.pipeline.ray.shares import runs_models, share_settings
from rlaif.sessions.session import Session


def settings(**options: Any) -> RunConfig:
    config = {
        "name": "demo",
        "prompts": {"path": "p.jsonl"},
        "constitution": "hhh",
        "student": {"engine": "scripted", "model": "echo"},
        "judges": [
            {
                "name": "main",
                "engine": "openai",
                "model": "m",
                "base_url": "http://127.0.0.1:9/v1",
                "options": options,
            }
        ],
        "concurrency": 100,
        "out": "run",
    }
    return load_config(RunConfig, config)


def test_every_limit_is_divided():
    shared = share_settings(settings(requests_per_minute=90, tokens_per_minute=1000), 4)
    options = read_options(shared.judges[0].options)
    assert shared.concurrency == 25
    assert (options.min_concurrency, options.start_concurrency) == (2, 5)
    assert options.max_concurrency == 128  # a quarter of the 512 of a server of one's own
    assert (options.requests_per_minute, options.tokens_per_minute) == (22.5, 250.0)


def test_a_given_maximum_is_divided_and_never_exceeded_in_sum():
    shared = share_settings(settings(max_concurrency=50), 8)
    assert read_options(shared.judges[0].options).max_concurrency == 6


def test_shares_change_no_plan():
    one = settings()
    fingerprints = {
        build_parts(Session(), given).manifest.fingerprint
        for given in (one, share_settings(one, 7))
    }
    assert len(fingerprints) == 1


@pytest.mark.parametrize(("workers", "options"), [(101, {}), (9, {"max_concurrency": 8})])
def test_more_workers_than_calls_are_refused(workers: int, options: dict[str, Any]):
    with pytest.raises(ConfigError, match="each needs at least one"):
        share_settings(settings(**options), workers)


def test_batches_are_refused_because_each_wants_everything_at_once():
    with pytest.raises(ConfigError, match="batch"):
        share_settings(settings(transport="batch"), 2)


def test_only_engines_of_this_process_want_a_gpu():
    assert not runs_models(settings())
    local = settings().model_dump() | {"student": {"engine": "transformers", "model": "m"}}
    assert runs_models(load_config(RunConfig, local))
