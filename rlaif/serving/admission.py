"""Who may ask the reward server, and how long asking may take.

The server binds to 127.0.0.1, but a page in a browser on the same machine can reach that too: by
itself (it then names its ``Origin``), or through a name that resolves to 127.0.0.1 (``Host``).
"""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from aiohttp import web

TOKEN_VARIABLE = "RLAIF_REWARD_TOKEN"
_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_SWEEP_S = 0.5

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Admission:
    """Checks every request before its body is read.

    Args:
        hosts: Names besides this machine's own by which the server may be addressed.
        token: What requests must bring as ``Authorization: Bearer ...``; empty asks for none.
        read_seconds: How long a request may take to arrive, headers and body.
    """

    def __init__(self, *, hosts: Sequence[str] = (), token: str = "", read_seconds: float) -> None:
        self._hosts = {name.lower() for name in (*_LOCAL, *hosts)}
        self._token = token.encode()
        self._read_seconds = read_seconds
        self._arrived: set[object] = set()

    def check(self, request: web.Request) -> None:
        """Refuse a request that is not authorised.

        Raises:
            HTTPException: 403 for another host or origin, 401 without the token.
        """
        self._arrived.add(request.protocol)
        host = request.headers.get("Host", "")
        if _without_port(host).lower() not in self._hosts:
            raise web.HTTPForbidden(
                text=f"the host {host!r:.60} is not this server: use 127.0.0.1, or add it to hosts"
            )
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{host}".lower():
            raise web.HTTPForbidden(text="requests from other origins are not allowed")
        if self._token and request.path != "/health":
            given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                raise web.HTTPUnauthorized(
                    text=f"send the server's token as a bearer token (rlaif reads {TOKEN_VARIABLE})"
                )

    async def read(self, request: web.Request) -> bytes:
        """Read the body of a request.

        Raises:
            HTTPException: 408 when it takes too long, 413 when it is too large, 415 compressed.
        """
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise web.HTTPUnsupportedMediaType(text="send the body uncompressed")
        try:
            async with asyncio.timeout(self._read_seconds):
                return await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout(
                text=f"the request has not arrived within {self._read_seconds:g} seconds"
            ) from None

    @contextlib.asynccontextmanager
    async def sweeping(self, server: web.Server) -> AsyncIterator[None]:
        """Close connections whose first request does not arrive in time, meanwhile."""

        async def sweep() -> None:
            since: dict[web.RequestHandler, float] = {}
            while True:
                await asyncio.sleep(_SWEEP_S)
                now = asyncio.get_running_loop().time()
                since = {one: since.get(one, now) for one in server.connections}
                self._arrived &= since.keys()
                for connection in since.keys() - self._arrived:
                    if now - since[connection] > self._read_seconds:
                        connection.force_close()

        task = asyncio.create_task(sweep())
        try:
            yield
        finally:
            task.cancel()


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host
