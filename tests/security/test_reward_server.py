"""Who may ask the reward server, and what slow and odd clients do to the others: nothing."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from rlaif.serving.client import RewardFailed, post
from tests.security.crowd import crowded_server, gather_crowd
from tests.serving.serve import Server, judged, send, serving

BODY = {"prompts": ["Why?"], "responses": ["So."]}
DATA = json.dumps(BODY).encode()
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    with serving(folder, judged(), read_seconds=1.0, hosts=["reward.lan"]) as running:
        yield running


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9"}, 200),
        ({"Host": "[::1]:5000"}, 200),
        ({"Host": "Reward.LAN"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:5000"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "localhost:9", "Origin": "http://localhost:9"}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
    ],
    ids=str,
)
async def test_only_this_machine_may_ask_and_no_page_of_a_browser(
    server: Server, headers: dict[str, str], status: int
):
    data = gzip.compress(DATA) if "Content-Encoding" in headers else DATA
    assert (await send(f"{server.url}/score", data=data, headers=JSON | headers))[0] == status


@pytest.mark.parametrize("path", ["health", "status"])
async def test_figures_are_shown_to_no_other_host(server: Server, path: str):
    async with (
        aiohttp.ClientSession(headers={"Host": "evil.example"}) as session,
        session.get(f"{server.url}/{path}") as reply,
    ):
        assert reply.status == 403
    assert "Access-Control-Allow-Origin" not in reply.headers


async def _raw(url: str, sent: bytes) -> bytes:
    """Send bytes and no more; return what comes until the server hangs up."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


async def test_a_body_that_does_not_arrive_is_408(server: Server):
    head = b"POST /score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    said = await _raw(server.url, head + b"Connection: close\r\nContent-Length: 900\r\n\r\n{")
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"not arrived within 1 seconds" in said


@pytest.mark.parametrize("sent", [b"", b"POST /score HTTP/1.1\r\nHost: 127.0.0.1\r\nX-"])
async def test_a_request_that_never_begins_is_hung_up_on(server: Server, sent: bytes):
    await _raw(server.url, sent)  # comes back only when the server closes


async def test_with_a_token_only_health_is_answered_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RLAIF_REWARD_TOKEN", "s3cret-tökén")
    with serving(tmp_path, judged()) as server:
        url = f"{server.url}/score"
        assert (await send(url, BODY))[0] == 401
        for wrong in ("Bearer ", "Bearer s3cret", "s3cret-tökén", "bearer s3cret-tökén"):
            headers = JSON | {"Authorization": wrong}
            assert (await send(url, data=DATA, headers=headers))[0] == 401
        headers = JSON | {"Authorization": "Bearer s3cret-tökén"}
        assert (await send(url, data=DATA, headers=headers))[0] == 200
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{server.url}/status") as reply:
                assert reply.status == 401
            async with session.get(f"{server.url}/health") as reply:
                assert reply.status == 200
        code, said = server.stop()
    assert (code, said) == (0, "")
    assert "s3cret" not in "".join(
        path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()
    )


async def test_our_client_sends_the_token_of_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RLAIF_REWARD_TOKEN", "s3cret")
    with serving(tmp_path, judged()) as server:
        found = await asyncio.to_thread(post, "/score", BODY, url=server.url)
        assert found["reasons"] == [""]
        monkeypatch.setenv("RLAIF_REWARD_TOKEN", "other")
        with pytest.raises(RewardFailed, match="status 401: send the server's token"):
            await asyncio.to_thread(post, "/score", BODY, url=server.url)


async def test_a_crowd_with_hostile_texts_and_slow_clients_leaves_health_quick(tmp_path: Path):
    with crowded_server(tmp_path, read_seconds=2.0) as server:
        found = await gather_crowd(server.url, clients=20, requests=3, slow=6)
    assert (found.answered, found.problems) == (60, 0)
    assert found.health < 1.0
