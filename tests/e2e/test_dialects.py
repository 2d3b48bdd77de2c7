"""Whole runs against servers that refuse fields, and models that think."""

import itertools
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.engines.openai import chat
from rlaif.errors import EngineMissing
from tests.e2e.project import write_project
from tests.engines.dialects import above, forbidden, having, in_turn
from tests.engines.faults import Fault, FaultServer, error, payload, serving

REFUSES = in_turn(
    having("seed", lambda body: forbidden("seed", body["seed"])),
    above("n", 1, "'n' : number must be at most 1"),
    having("logprobs", lambda _: error(400, "logprobs is not supported with this model")),
)


def project(folder: Path, server: FaultServer, **judge: Any) -> Path:
    folder.mkdir(exist_ok=True)
    endpoint = {
        "engine": "openai",
        "model": "test-model",
        "base_url": server.base_url,
        "options": {"transport": "fast"},
    }
    return write_project(
        folder,
        prompts=40,
        student={**endpoint, "sampling": {"n": 2}},
        judges=[{"name": "main", **endpoint, **judge}],
    )


async def test_a_run_finishes_at_a_server_that_refuses_seed_and_n(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(chat, "PILOT_S", 60.0)
    async with serving("plain") as server:
        drawn = itertools.count()

        def answer(body: dict[str, Any]) -> Fault | None:
            refused = REFUSES(body)
            if refused or "response_format" in body:
                return refused
            told = server.fake.answer(body)
            told["choices"][0]["message"]["content"] += f", draw {next(drawn)}"  # without a seed
            return payload(told)

        server.fault_of = answer
        with pytest.raises(EngineMissing, match="words: true"):
            await rlaif.agenerate(project(tmp_path / "labels", server))
        server.seen.clear()
        run = await rlaif.agenerate(project(tmp_path / "words", server, pairwise={"words": True}))
    status = run.status()
    assert (status.rows, status.failed) == (40, 0)
    assert not status.call_failures
    tried = 3  # before the run: two samples and a verdict
    assert len(server.chats()) - 160 - tried <= 3  # 80 samples singly, 40 pairs twice


async def test_what_a_model_thinks_is_in_the_ledger_and_in_no_row(tmp_path: Path):
    async with serving("plain") as server:

        def thinking(body: dict[str, Any]) -> Fault | None:
            answer = server.fake.answer(body)
            for choice in answer["choices"]:
                text = choice["message"]["content"]
                choice["message"]["content"] = f"<think>\nmy secret thought\n</think>\n\n{text}"
            return payload(answer)

        server.fault_of = thinking
        run = await rlaif.agenerate(project(tmp_path, server, pairwise={"words": True}))
    pairs = list(run.pairs())
    assert pairs
    shown = str(list(run.rows()))
    assert "secret thought" not in shown
    assert "This is reply" in shown
    assert b"my secret thought" in b"".join(
        path.read_bytes() for path in run.path.glob("ledger.sqlite*")
    )
