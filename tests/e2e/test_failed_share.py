"""Work of which too much failed ends with 5, and can be resumed; nothing measured is no success."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlaif.auditing import aaudit
from rlaif.auditing.principles.principles import atry_constitution
from rlaif.errors import TooManyFailed
from rlaif.evaluation import aevaluate
from tests.auditing.planted import write_gold
from tests.e2e.test_nothing_achieved import judging
from tests.engines.faults import FaultServer, error, serving

GOLD = 10
WORDS = "not supported"


def fail(server: FaultServer, share: int) -> None:
    """Refuse so many of ten calls of the judge."""
    count = iter(range(10_000))
    server.fault_of = lambda body: (
        error(400, WORDS) if judging(body) and next(count) % 10 < share else None
    )


def asked(server: FaultServer) -> int:
    return sum(judging(one.body) for one in server.chats())


def judge(server: FaultServer) -> dict[str, Any]:
    options = {"supports_n": False, "max_attempts": 1}
    return {
        "name": "main", "engine": "openai", "model": "test-model", "base_url": server.base_url,
        "options": options,
    }  # fmt: skip


Work = Callable[[Path, FaultServer, dict[str, Any]], Any]


async def audit(folder: Path, server: FaultServer, more: dict[str, Any]) -> Any:
    write_gold(folder / "gold.jsonl", GOLD)
    settings = {"judges": [judge(server)], "out": str(folder / "out"), "give_up_after": 0, **more}
    return await aaudit(settings, [folder / "gold.jsonl"])


async def evaluate(folder: Path, server: FaultServer, more: dict[str, Any]) -> Any:
    models = [
        {"name": "echo", "engine": "scripted", "model": "echo"},
        judge(server) | {"name": "other"},
    ]
    settings = {
        "name": "e", "prompts": [f"Question {n}?" for n in range(GOLD)], "constitution": "hhh",
        "models": models, "baseline": "echo", "judges": [judge(server)], "give_up_after": 0,
        "out": str(folder / "out"), **more,
    }  # fmt: skip
    return await aevaluate(settings)


async def try_principles(folder: Path, server: FaultServer, more: dict[str, Any]) -> Any:
    settings = {"judges": [judge(server)], "out": str(folder / "out"), "give_up_after": 0, **more}
    return await atry_constitution("honest", judge=settings)


WORK = [audit, evaluate, try_principles]


@pytest.mark.parametrize("work", WORK)
async def test_more_than_half_of_a_judges_calls_failing_ends_with_5_and_is_resumed(
    tmp_path: Path, work: Work
) -> None:
    async with serving("openai") as server:
        fail(server, 6)
        with pytest.raises(TooManyFailed) as raised:
            await work(tmp_path, server, {})
        assert raised.value.exit_code == 5
        assert "of what was asked of judge:main failed, more than max_failed_share: 0.5" in (
            raised.value.message
        )
        assert WORDS in raised.value.message
        first = asked(server)
        failed = sum(1 for n in range(first) if n % 10 < 6)
        fail(server, 0)
        server.seen.clear()
        done = await work(tmp_path, server, {})
        assert not done.nothing
        assert asked(server) == failed, "what succeeded is not asked again"


@pytest.mark.parametrize("work", WORK)
async def test_a_higher_share_is_accepted_where_the_file_says_so(
    tmp_path: Path, work: Work
) -> None:
    async with serving("openai") as server:
        fail(server, 6)
        assert not (await work(tmp_path, server, {"max_failed_share": 0.9})).nothing


@pytest.mark.parametrize("work", WORK)
async def test_nothing_measured_is_said_and_measured_once_the_server_works(
    tmp_path: Path, work: Work
) -> None:
    async with serving("openai") as server:
        fail(server, 10)
        nothing = (await work(tmp_path, server, {})).nothing
        assert nothing.startswith("no judge gave a readable verdict; most frequent failure: ")
        assert WORDS in nothing
        fail(server, 0)
        assert not (await work(tmp_path, server, {})).nothing


async def test_a_constitution_of_which_nothing_can_be_tested_is_no_success(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    principle = {"id": "kind", "statement": "Be kind.", "comparison": "Which is kinder?"}
    data = {"name": "one", "version": "1.0.0", "principles": [principle]}
    path.write_text(json.dumps(data))
    assert (await atry_constitution(path)).nothing.startswith("nothing was tested: ")
