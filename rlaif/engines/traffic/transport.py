"""Transports: two ways to carry bytes to an OpenAI-compatible server and back.

``sdk`` is the official client on its aiohttp transport; ``fast`` is aiohttp alone, for one's own
servers, and carries the files of ``batch``. Both take the same body bytes and return the same
`Answer` or raise the same `NoAnswer`, so everything above them (retries, limits, reading replies)
is one piece of code. Neither repeats a request or follows a redirect: a retry hidden in a client is
one the limits never see, and a redirect could carry the key to another host.
"""

import asyncio
import urllib.request
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rlaif.errors import EngineMissing

if TYPE_CHECKING:
    import aiohttp

KEEP_ALIVE_S = 4.0
"""Shorter than the 5 s after which uvicorn (vLLM, SGLang) closes an idle connection: a request
written just as the server closes is lost."""

_ACCEPTED = {"Accept-Encoding": "gzip, deflate"}
"""What `_unpacked` can read."""

_STEP = 1 << 18
"""The most bytes that are unpacked at once."""

TransportKind = Literal["sdk", "fast", "batch"]
NoAnswerKind = Literal["unreachable", "connection", "timeout", "truncated", "too-large"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""

    body: bytes


class NoAnswer(Exception):  # noqa: N818 - an outcome of sending, handled by the retry loop
    """No complete answer came back.

    Args:
        kind: ``unreachable`` (no connection was made), ``connection`` (it broke before an answer),
            ``timeout``, ``truncated`` (it broke inside the answer) or ``too-large``.
        words: What happened, in one line.
    """

    def __init__(self, kind: NoAnswerKind, words: str) -> None:
        super().__init__(f"{kind}: {words}")
        self.kind = kind
        self.words = words


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a transport connects. ``headers`` hold the key: never shown."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    timeout_s: float
    """For the whole exchange."""

    connect_timeout_s: float
    connections: int
    max_reply_bytes: int = 64 * 2**20
    """Of one answer, unpacked. What is longer is not read to its end."""


class Transport(Protocol):
    """Carries one request at a time per call; many calls at once."""

    async def post(self, url: str, body: bytes) -> Answer:
        """Send JSON bytes.

        Raises:
            NoAnswer: Nothing complete came back.
        """
        ...

    async def get(self, url: str, timeout_s: float) -> Answer:
        """Fetch; the same errors as `post`."""
        ...

    async def aclose(self) -> None:
        """Close the connections. Safe to call twice."""
        ...


def open_transport(kind: TransportKind, wiring: Wiring) -> Transport:
    """Return a transport of the running event loop.

    Raises:
        EngineMissing: The ``openai`` extra is not installed.
    """
    check_installed(kind)
    return SdkTransport(wiring) if kind == "sdk" else FastTransport(wiring)


def check_installed(kind: TransportKind) -> None:
    """Find out early whether the client is there.

    Raises:
        EngineMissing: Names the extra to install.
    """
    try:
        import aiohttp  # noqa: F401

        if kind == "sdk":
            import httpx2  # noqa: F401
            import openai  # noqa: F401
    except ImportError as missing:
        raise EngineMissing(
            f"engine openai needs {missing.name}, which is not installed",
            hint="pip install 'constitutional-rlaif[openai]'",
        ) from None


class FastTransport:
    """aiohttp and nothing else."""

    def __init__(self, wiring: Wiring) -> None:
        import aiohttp

        self._timeout = aiohttp.ClientTimeout(
            total=wiring.timeout_s, sock_connect=wiring.connect_timeout_s
        )
        # A file takes as long as it takes; only silence is a timeout.
        self._patient = aiohttp.ClientTimeout(
            sock_connect=wiring.connect_timeout_s, sock_read=wiring.timeout_s
        )
        self._client_timeout = aiohttp.ClientTimeout
        self._most = wiring.max_reply_bytes
        self._session = aiohttp.ClientSession(
            connector=_connector(wiring),
            headers={**_ACCEPTED, **wiring.headers},
            auto_decompress=False,  # it would unpack a whole piece at once, however large
            timeout=self._timeout,
            # Asking the environment on every request costs more than sending it.
            trust_env=bool(urllib.request.getproxies()),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def post(self, url: str, body: bytes) -> Answer:
        """Send JSON bytes."""
        try:
            async with self._session.post(url, data=body, allow_redirects=False) as response:
                return await self._answer(response)
        except Exception as error:  # noqa: BLE001 - sorted by type; anything but a network error is raised again
            raise _no_answer(error) from None

    async def get(self, url: str, timeout_s: float) -> Answer:
        """Fetch."""
        timeout = self._client_timeout(total=timeout_s)
        try:
            async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
                return await self._answer(response)
        except Exception as error:  # noqa: BLE001 - sorted by type; anything but a network error is raised again
            raise _no_answer(error) from None

    async def upload(self, url: str, path: Path, fields: Mapping[str, str]) -> Answer:
        """Post a file as a form, streamed from the disk; the same errors as `post`."""
        import aiohttp

        with path.open("rb") as file:
            form = aiohttp.FormData(fields)
            form.add_field("file", file, filename=path.name, content_type="application/jsonl")
            payload = form()
            headers = {"Content-Type": payload.content_type}
            try:
                async with self._session.post(
                    url, data=payload, headers=headers, timeout=self._patient, allow_redirects=False
                ) as response:
                    return await self._answer(response)
            except Exception as error:  # noqa: BLE001 - sorted by type, as above
                raise _no_answer(error) from None

    async def download(self, url: str, keep: Callable[[bytes], None]) -> Answer:
        """Fetch a file piece by piece; the answer to a success has an empty object as its body.

        Args:
            url: Where it is.
            keep: Takes each piece; must raise no OSError, which would pass for network trouble.
        """
        try:
            async with self._session.get(
                url, timeout=self._patient, allow_redirects=False
            ) as response:
                if response.status != 200:
                    return await self._answer(response)
                async for piece in _unpacked(response.content.iter_any(), response.headers):
                    keep(piece)
                return Answer(response.status, response.headers, b"{}")
        except Exception as error:  # noqa: BLE001 - sorted by type, as above
            raise _no_answer(error) from None

    async def _answer(self, response: "aiohttp.ClientResponse") -> Answer:
        headers = response.headers
        if _is_short(headers, self._most):
            body = await response.read()
        else:
            pieces = _unpacked(response.content.iter_any(), headers)
            body = await _read_within(pieces, self._most)
        return Answer(response.status, headers, body)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()


class SdkTransport:
    """`openai.AsyncOpenAI` on aiohttp; replies are taken as bytes, before pydantic sees them."""

    def __init__(self, wiring: Wiring) -> None:
        import httpx2
        import openai

        self._timeout_s = wiring.timeout_s
        self._as_is = httpx2.Response
        # Where the key travels in another header, the client would send its own placeholder.
        bare = "Authorization" not in wiring.headers
        self._options: Any = {"headers": {"Authorization": openai.Omit()}} if bare else {}
        self._status_error = openai.APIStatusError
        self._lost = openai.APIConnectionError
        self._client = openai.AsyncOpenAI(
            base_url=wiring.base_url,
            api_key="unused",  # the real one travels in the headers, as on the fast path
            default_headers={**_ACCEPTED, **wiring.headers},
            max_retries=0,
            timeout=httpx2.Timeout(
                wiring.timeout_s, connect=wiring.connect_timeout_s, pool=wiring.timeout_s
            ),
            http_client=openai.DefaultAioHttpClient(
                follow_redirects=False,
                limits=httpx2.Limits(
                    max_connections=wiring.connections, keepalive_expiry=KEEP_ALIVE_S
                ),
            ),
        )
        # The client fills these from the environment; they belong to OpenAI, not to every server.
        self._client.organization = self._client.project = self._client.admin_api_key = None
        self._most = wiring.max_reply_bytes
        hooks = self._client._client.event_hooks
        self._client._client.event_hooks = {
            **hooks,
            "response": [*hooks["response"], self._read_within_limit],
        }

    async def post(self, url: str, body: bytes) -> Answer:
        """Send JSON bytes."""
        return await self._send(
            self._client.post(url, content=body, cast_to=self._as_is, options=self._options),
            self._timeout_s,
        )

    async def get(self, url: str, timeout_s: float) -> Answer:
        """Fetch."""
        return await self._send(
            self._client.get(url, cast_to=self._as_is, options=self._options), timeout_s
        )

    async def _read_within_limit(self, response: Any) -> None:
        """Read the body before the client does, who would read it to whatever end it has."""
        if not _is_short(response.headers, self._most):
            pieces = _unpacked(response.aiter_raw(), response.headers)
            response._content = await _read_within(pieces, self._most)

    async def _send(self, sending: Any, timeout_s: float) -> Answer:
        try:
            # The client's own timeout is per read: a server that drips would never time out.
            async with asyncio.timeout(timeout_s):
                response = await sending
        except self._status_error as refused:
            response = refused.response
        except Exception as error:  # noqa: BLE001 - sorted by type; anything but a network error is raised again
            raise _no_answer(error, self._lost) from None
        return Answer(response.status_code, response.headers, response.content)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()


def _is_short(headers: Mapping[str, str], most: int) -> bool:
    """Return whether the body says how long it is, and is not too long."""
    length = headers.get("Content-Length", "")
    if not length.isdigit() or len(length) > 18 or "Content-Encoding" in headers:
        return False
    if int(length) > most:
        raise _too_large(most)
    return True


async def _unpacked(
    pieces: AsyncIterable[bytes], headers: Mapping[str, str]
) -> AsyncIterator[bytes]:
    """Yield a body unpacked, in pieces no longer than `_STEP`, however tightly it is packed."""
    coding = headers.get("Content-Encoding", "identity").strip().lower() or "identity"
    if coding == "identity":
        async for piece in pieces:
            yield piece
        return
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise NoAnswer("truncated", f"it is packed as {coding[:40]!r}, which was not asked for")
    unpack: zlib._Decompress | None = None
    try:
        async for piece in pieces:
            if unpack is None and piece:  # a deflate without its header is what some servers send
                bare = coding == "deflate" and piece[0] & 0x0F != 8
                unpack = zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32)
            while piece and unpack is not None and not unpack.eof:
                yield unpack.decompress(piece, _STEP)
                piece = unpack.unconsumed_tail
        while unpack is not None and not unpack.eof and (rest := unpack.decompress(b"", _STEP)):
            yield rest
    except zlib.error as problem:
        raise NoAnswer("truncated", f"it cannot be unpacked ({problem})") from None
    if unpack is not None and not unpack.eof:
        raise NoAnswer("truncated", "its packed body is not complete")


async def _read_within(pieces: AsyncIterable[bytes], most: int) -> bytes:
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > most:
            raise _too_large(most)
    return bytes(body)


def _too_large(most: int) -> NoAnswer:
    return NoAnswer(
        "too-large", f"the reply is larger than {most:,} bytes (options.max_reply_bytes)"
    )


def _connector(wiring: Wiring) -> "aiohttp.TCPConnector":
    import aiohttp

    return aiohttp.TCPConnector(limit=wiring.connections, keepalive_timeout=KEEP_ALIVE_S)


def _no_answer(error: BaseException, lost: type[BaseException] | None = None) -> BaseException:
    """Sort an exception of aiohttp, bare or wrapped by the SDK, into a `NoAnswer`.

    ``lost`` is the SDK's own word for a broken connection. Anything else comes back unchanged.
    """
    import aiohttp

    inner = error
    while inner.__cause__ is not None and not isinstance(inner, NoAnswer):
        inner = inner.__cause__
    if isinstance(inner, NoAnswer):
        return inner
    inner = error
    while inner.__cause__ is not None and not isinstance(inner, aiohttp.ClientError | OSError):
        inner = inner.__cause__
    words = f"{type(inner).__name__}: {inner}".removesuffix(": ")
    match inner:
        case aiohttp.InvalidURL():
            return error
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return NoAnswer("unreachable", (str(inner) or words).replace(" ssl:default", ""))
        case TimeoutError():
            return NoAnswer("timeout", "no complete answer in time")
        case aiohttp.ClientPayloadError():
            return NoAnswer("truncated", words)
        case aiohttp.ClientError() | OSError():
            return NoAnswer("connection", words)
        case _ if lost and isinstance(error, lost):
            return NoAnswer("connection", words)
        case _:
            return error
