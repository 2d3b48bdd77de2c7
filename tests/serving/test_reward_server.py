import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import torch

from tests.e2e.project import rlaif
from tests.serving.serve import (
    Server,
    ask_as_openrlhf,
    failing,
    get,
    judged,
    send,
    serving,
)

PROMPT = "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n"
SAME: dict[str, Any] = {"prompts": ["Why is the sky blue?"], "responses": ["It is."]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("serve"), judged(), max_bytes=20_000) as running:
        yield running


async def test_openrlhf_gets_one_number_it_can_make_a_tensor_of(server: Server):
    reply, logged = await ask_as_openrlhf(server.url, PROMPT + "It is.<|im_end|>", PROMPT, "")
    assert not logged
    # What OpenRLHF's samples generator does with the reply.
    for name in ("rewards", "scores"):
        assert torch.tensor([reply[name]]).dtype == torch.float32
    assert [torch.tensor([value]).item() for value in reply["extra_logs"].values()] == [0.0]


async def test_every_trainer_gets_the_same_score_for_the_same_text(server: Server):
    reply, _ = await ask_as_openrlhf(server.url, PROMPT + "It is.<|im_end|>", PROMPT, None)
    label = json.dumps({"prompt": [{"role": "user", "content": "Why is the sky blue?"}]})
    told, _ = await ask_as_openrlhf(server.url, "[U] why [A] It is.</s>", "[U] why [A] ", label)
    _, plain = await send(f"{server.url}/score", SAME)
    asked = {
        "data_source": "x",
        "solution_str": "It is.",
        "ground_truth": "",
        "extra_info": {"prompt": "Why is the sky blue?"},
    }
    _, verl = await send(f"{server.url}/compute_score", asked)
    assert reply["rewards"] == told["rewards"] == plain["scores"] == [verl["score"]]
    assert plain["reasons"] == [""]
    assert verl["unscored"] == 0.0


async def test_a_repeated_text_is_not_asked_again(server: Server):
    await send(f"{server.url}/score", SAME)
    before = (await get(f"{server.url}/status"))["judges"]["asked"]
    status, _ = await send(f"{server.url}/score", SAME)
    assert status == 200
    after = await get(f"{server.url}/status")
    assert after["judges"]["asked"] == before > 0
    assert after["requests"]["/score"] >= 2


async def test_many_requests_at_once_are_all_answered_and_each_with_its_own(server: Server):
    texts = [f"Answer {i}." for i in range(64)]
    together = await asyncio.gather(  # noqa: TID251 - nothing is left over
        *(ask_as_openrlhf(server.url, PROMPT + text, PROMPT, "") for text in texts)
    )
    _, one_by_one = await send(
        f"{server.url}/score", {"prompts": SAME["prompts"] * 64, "responses": texts}
    )
    assert [reply["rewards"][0] for reply, _ in together] == one_by_one["scores"]
    assert len(set(one_by_one["scores"])) > 32


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("get_reward", {"query": "one"}, "query: expected a list of texts"),
        ("get_reward", {"query": ["a"], "prompts": []}, "expected 1 texts"),
        ("get_reward", {"query": ["nothing of it"], "prompts": ["Q: what is this?"]}, "not hold"),
        ("get_reward", {"query": ["a"], "prompts": ["a"], "labels": [1, 2]}, "list of 1"),
        ("get_reward", ["a"], "expected a JSON object"),
        ("compute_score", {"solution_str": "a", "extra_info": {}}, "holds no 'prompt'"),
        ("score", {"prompts": ["a"], "responses": []}, "equally long"),
        ("score", {"prompts": [[{"role": "user"}]], "responses": ["a"]}, "prompts.0: a prompt is"),
        ("score", {"prompts": ["a"], "responses": [3]}, "responses.0"),
    ],
)
async def test_a_request_that_cannot_be_understood_is_told_why(
    server: Server, path: str, body: Any, words: str
):
    status, reply = await send(f"{server.url}/{path}", body)
    assert status == 400
    assert words in reply["error"]


async def test_what_is_no_json_or_too_large_is_refused(server: Server):
    url = f"{server.url}/score"
    headers = {"Content-Type": "application/json"}
    status, reply = await send(url, data=b'{"prompts": [', headers=headers)
    assert (status, "the body is not valid JSON" in reply["error"]) == (400, True)
    assert (await send(url, data=b"{}", headers={"Content-Type": "text/plain"}))[0] == 415
    status, reply = await send(url, {"prompts": ["x" * 30_000], "responses": ["y"]})
    assert (status, "exceeded" in reply["error"]) == (413, True)
    assert (await get(f"{server.url}/health"))["status"] == "ok"


async def test_an_abstention_is_null_with_a_reason_or_a_refusal_that_openrlhf_logs(tmp_path: Path):
    with serving(tmp_path, failing()) as server:
        status, plain = await send(f"{server.url}/score", SAME)
        assert (status, plain["scores"]) == (200, [None])
        assert "the judge 'main' abstained" in plain["reasons"][0]
        reply, logged = await ask_as_openrlhf(server.url, PROMPT + "It is.", PROMPT, "")
        assert reply is None
        assert len(logged) == 5
        assert "422, message=\"unscored: the judge 'main' abstained" in logged[0]
        found = await get(f"{server.url}/status")
        assert found["unscored"] == found["responses"] == 6
        assert found["problems"] == {"422": 5}


async def test_a_number_may_stand_for_unscored_and_is_marked(tmp_path: Path):
    with serving(tmp_path, failing(), unscored=-2.5) as server:
        reply, _ = await ask_as_openrlhf(server.url, PROMPT + "It is.", PROMPT, "")
        assert reply == {
            "rewards": [-2.5],
            "scores": [-2.5],
            "extra_logs": {"unscored": [1.0]},
        }
        assert (await send(f"{server.url}/score", SAME))[1]["scores"] == [None]


async def test_judges_rules_and_weights_are_added_up_as_in_training(tmp_path: Path):
    rules = "name: r\nversion: 1.0.0\nprinciples:\n  - {id: b, kind: rule, statement: s, "
    (tmp_path / "rules.yaml").write_text(rules + "rule: {max_words: 2}}\n")
    parts = [{**judged(), "weight": 2.0}, {"rules": "rules.yaml", "weight": 10.0}]
    with serving(tmp_path, parts, length_penalty={"per_word": 0.5}) as server:
        _, short = await send(f"{server.url}/score", SAME)
        code, said = server.stop()
    with serving(tmp_path, judged()) as server:  # the same ledger: nothing is asked
        _, alone = await send(f"{server.url}/score", SAME)
        assert (await get(f"{server.url}/status"))["judges"]["asked"] == 0
    assert (code, said) == (0, "")
    assert short["scores"][0] == pytest.approx(2.0 * alone["scores"][0] + 10.0 - 0.5 * 2)


async def test_a_judge_that_is_down_is_503_and_the_server_lives_on(tmp_path: Path, dead_port: int):
    judge = {
        "name": "main",
        "engine": "openai",
        "model": "m",
        "base_url": f"http://127.0.0.1:{dead_port}/v1",
        "method": "pointwise",
        "options": {"max_outage_s": 0.2},
    }
    with serving(tmp_path, judged(judges=[judge])) as server:
        status, reply = await send(f"{server.url}/score", SAME)
        assert (status, "127.0.0.1" in reply["error"]) == (503, True)
        assert (await get(f"{server.url}/health"))["status"] == "ok"


@pytest.fixture
def slow_judge() -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """A server of chat completions that answers when it is let."""
    asked, let = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.set()
            let.wait(60)
            top = [{"token": str(i), "logprob": -1.0 - i, "bytes": None} for i in range(1, 10)]
            content = [{"token": "1", "logprob": -2.0, "bytes": None, "top_logprobs": top}]
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": "1"},
                "logprobs": {"content": content},
                "finish_reason": "length",
            }
            body = json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]})
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None: ...

    from http.server import ThreadingHTTPServer

    server: HTTPServer = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked, let
    let.set()
    server.shutdown()
    server.server_close()
    thread.join()


async def test_sigterm_lets_what_is_in_flight_finish(slow_judge, tmp_path: Path):
    address, asked, let = slow_judge
    judge = {
        "name": "main",
        "engine": "openai",
        "model": "m",
        "base_url": address,
        "method": "pointwise",
    }
    with serving(tmp_path, judged(judges=[judge])) as server:
        pending = asyncio.create_task(send(f"{server.url}/score", SAME))
        assert await asyncio.to_thread(asked.wait, 60)
        server.process.terminate()
        await _until_refused(server.url)
        let.set()
        status, reply = await pending
        assert (status, reply["reasons"]) == (200, [""])
        _, said = await asyncio.to_thread(server.process.communicate)
        assert (server.process.returncode, said) == (0, b"")


async def test_a_judge_that_hangs_is_504(slow_judge, tmp_path: Path):
    judge = {
        "name": "main",
        "engine": "openai",
        "model": "m",
        "base_url": slow_judge[0],
        "method": "pointwise",
    }
    with serving(tmp_path, judged(judges=[judge]), timeout=0.5) as server:
        status, reply = await send(f"{server.url}/score", SAME)
        assert (status, "has not answered for 0.5 seconds" in reply["error"]) == (504, True)


async def test_more_requests_than_may_wait_are_told_to_come_back(slow_judge, tmp_path: Path):
    address, asked, let = slow_judge
    judge = {
        "name": "main",
        "engine": "openai",
        "model": "m",
        "base_url": address,
        "method": "pointwise",
    }
    limits = {"concurrency": 1, "max_waiting": 0}
    with serving(tmp_path, judged(judges=[judge]), **limits) as server:
        pending = asyncio.create_task(send(f"{server.url}/score", SAME))
        assert await asyncio.to_thread(asked.wait, 60)
        assert (await send(f"{server.url}/score", SAME))[0] == 503
        let.set()
        assert (await pending)[0] == 200


async def _until_refused(url: str) -> None:
    for _ in range(600):
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{url}/health"):
                pass
        except aiohttp.ClientConnectorError:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the server still takes connections")


def test_mistakes_end_with_code_2_before_anything_is_served(tmp_path: Path):
    path = tmp_path / "serve.yaml"
    path.write_text(json.dumps({"reward": {"judged": {"constitution": "hhh"}}}))
    found = rlaif("serve-reward", path, cwd=tmp_path)
    assert (found.returncode, "'reward.judged.judges' is missing" in found.stderr) == (2, True)
    pairwise = judged(judges=[{"name": "j", "engine": "scripted", "model": "echo"}])
    path.write_text(json.dumps({"reward": pairwise}))
    found = rlaif("serve-reward", path, cwd=tmp_path)
    assert (found.returncode, "pairwise compares two responses" in found.stderr) == (2, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        path.write_text(json.dumps({"reward": judged()}))
        port = str(taken.getsockname()[1])
        found = rlaif("serve-reward", path, "--port", port, cwd=tmp_path)
    assert (found.returncode, f"port {port}" in found.stderr) == (2, True)
    assert "Traceback" not in found.stderr
