"""A local vLLM server: started with the right flags, waited for, stopped for good.

```python
with serve_vllm("smollm2-135m-instruct") as server:
    engine = open_engine("openai", model=server.model, base_url=server.base_url)
```

The server is bound to 127.0.0.1 and ends with this process, however that ends (see
`rlaif.engines.vllm.guard`). What it prints goes to a log file.
"""

import contextlib
import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import Field, model_validator

from rlaif.config import load_config, nearest
from rlaif.config.load import FilePath
from rlaif.engines.vllm import guard
from rlaif.engines.vllm.install import VllmInstall, find_vllm
from rlaif.engines.vllm.options import (
    VllmSettings,
    engine_arguments,
    find_model,
    served_name,
    weights_format,
)
from rlaif.errors import ConfigError, EngineError, EngineMissing, InputError
from rlaif.models import SHIPPED, cache_folder

_LAST_LINES = 15
_TAIL_BYTES = 2000
_UNKNOWN_MODEL = re.compile(
    r"is not a local folder and is not a valid model identifier|Repository Not Found|"
    r"Can't load the configuration of|couldn't connect to .*huggingface|LocalEntryNotFoundError|"
    r"HFValidationError|OfflineModeIsEnabled"
)
_UNKNOWN_ARGUMENT = re.compile(r"unrecognized arguments: (.+)")
_ERROR = re.compile(r"\b([A-Z]\w*(?:Error|Exception)): (.+)")


def last_lines(log: Path, start: int = 0) -> str:
    """Return the end of a log from byte ``start``, each line marked as quoted."""
    lines = _words(log, start).splitlines()[-_LAST_LINES:]
    return "\n".join(f"  | {line}" for line in lines)


def last_line(log: Path, start: int = 0) -> str:
    """Return the last line that says anything; cheap however long the log is."""
    lines = _words(log, max(start, log.stat().st_size - _TAIL_BYTES)).split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def why_it_ended(
    log: Path, *, start: int, model: str, version: str, status: int | None
) -> EngineError | ConfigError:
    """Return the error that tells a user why a server ended while starting."""
    words = _words(log, start)
    whole = f"its whole log is {log}"
    if _UNKNOWN_MODEL.search(words):
        return EngineMissing(
            f"model {model!r} not found: not a bundled model, a local folder, or a model on the "
            f"Hub{nearest(model, sorted(SHIPPED))}",
            hint=f"check the name, or the network if it is a Hub id; {whole}",
        )
    unknown = _UNKNOWN_ARGUMENT.search(words)
    if unknown:
        release = version or "of this version"
        return ConfigError(f"vLLM {release} does not support {unknown[1].strip()}", hint=whole)
    # The first error is the cause; the later ones are who noticed it.
    first = _ERROR.search(words)
    cause = f": {first[1]}: {first[2].strip()}" if first else ""
    return EngineError(
        f"the vLLM server ended while starting (exit status {status}){cause}\n"
        f"the last lines of its log:\n{last_lines(log, start)}",
        hint=whole,
    )


def _words(log: Path, start: int) -> str:
    with log.open("rb") as handle:
        handle.seek(start)
        return handle.read().decode(errors="replace")


HOST = "127.0.0.1"
_MODULE = "vllm.entrypoints.openai.api_server"
_POLL_S = 0.3
_OURS = ("--model", "--port", "--served-model-name")

OnWait = Callable[[float, str], None]
"""Called while the server starts, with the seconds gone by and the last line of its log."""


class ServeOptions(VllmSettings):
    """How a server is started."""

    model: str = Field(min_length=1, description="A shipped name, a folder, a GGUF file, a hub id.")
    revision: str | None = Field(None, description="Of a hub id: branch, tag or commit.")
    name: str | None = Field(
        None,
        description="What requests call the model (default: its name; a folder's with hash).",
    )
    port: int = Field(0, ge=0, le=65535, description="0: any free one.")
    python: str | None = Field(None, description="An interpreter that has vLLM.")
    log: FilePath | None = Field(
        None,
        description="Append the server's log here (default: a file in the cache folder).",
    )
    start_timeout_s: float = Field(1800.0, gt=0, allow_inf_nan=False)
    arguments: tuple[str, ...] = Field((), description="Further arguments of vLLM's server.")

    @model_validator(mode="after")
    def _arguments_are_others(self) -> "ServeOptions":
        for argument in self.arguments:
            flag = argument.partition("=")[0].replace("_", "-")
            if flag in _OURS:
                raise ValueError(f"{flag} is an option of rlaif serve, not an argument for vLLM")
        return self


@dataclass(slots=True)
class VllmServer:
    """A server that is up. `serve_vllm` makes it."""

    model: str
    """What requests call the model."""

    base_url: str
    log: Path
    install: VllmInstall
    flags: tuple[str, ...]
    """The arguments vLLM was started with."""

    started_s: float = 0.0
    """Seconds it took to be healthy."""

    _log_start: int = field(repr=False, kw_only=True)
    """Where its own words begin in a log that was there before."""

    _process: "subprocess.Popen[bytes]" = field(repr=False, kw_only=True)

    @property
    def pid(self) -> int:
        """Of the process that watches over the server."""
        return self._process.pid

    @property
    def engine_config(self) -> dict[str, Any]:
        """What a run file says to ask this server."""
        config: dict[str, Any] = {
            "engine": "openai",
            "model": self.model,
            "base_url": self.base_url,
            "options": {"transport": "fast", "prefill": True, "score": "vllm"},
        }
        if os.environ.get("VLLM_API_KEY"):  # vLLM asks for it when it is set
            config["api_key_env"] = "VLLM_API_KEY"
        return config

    def wait(self) -> None:
        """Wait until the server ends by itself, which it should not.

        Raises:
            EngineError: It ended; with the last lines of its log.
        """
        status = self._process.wait()
        raise EngineError(
            f"the vLLM server ended (exit status {status})\n{last_lines(self.log, self._log_start)}"
        )


@contextlib.contextmanager
def serve_vllm(
    model: str, *, on_wait: OnWait | None = None, **options: Any
) -> Iterator[VllmServer]:
    """Start a vLLM server, wait until it is healthy, stop it at the end.

    Args:
        model: A shipped name, a folder, a GGUF file or a hub id.
        on_wait: Called a few times a second until the server is healthy.
        options: See `ServeOptions`.

    Raises:
        ConfigError: A wrong option, or an argument that vLLM does not know.
        EngineMissing: vLLM is not installed, or the model was not found.
        InputError: The port is taken, or the folder was not found.
        EngineError: The server ended while starting, or took too long; with the end of its log.
    """
    settings = load_config(ServeOptions, {"model": model, **options})
    install = find_vllm(settings.python)
    place = find_model(settings.model)
    port = _free_port(settings.port)
    name = settings.name or served_name(settings.model, place)
    flags = server_flags(settings, place=place, name=name, port=port, cpu=install.cpu)
    log = settings.log or cache_folder() / "logs" / f"vllm-{port}.log"
    with _open_log(log, append=settings.log is not None) as output:
        start, process = output.tell(), _start(install, flags, output)
    server = VllmServer(
        name,
        f"http://{HOST}:{port}/v1",
        log,
        install,
        flags,
        _log_start=start,
        _process=process,
    )
    try:
        _wait_until_healthy(server, port, settings, on_wait)
        yield server
    finally:
        _stop(server._process)


def server_flags(
    settings: ServeOptions, *, place: str, name: str, port: int, cpu: bool
) -> tuple[str, ...]:
    """Return the arguments of vLLM's server; the user's own come last and win."""
    arguments: dict[str, Any] = {
        "model": place,
        "served_model_name": name,
        "host": HOST,
        "port": port,
        # Replies then say how much of a prompt came from the prefix cache.
        "enable_prompt_tokens_details": True,
        **engine_arguments(settings, cpu=cpu),
        **weights_format(place),
    }
    if settings.revision is not None:
        arguments["revision"] = settings.revision
    if settings.chat_template is not None:
        arguments["chat_template"] = str(settings.chat_template)
    flags: list[str] = []
    for argument, value in arguments.items():
        flags.append(f"--{argument.replace('_', '-')}")
        if value is not True:
            flags.append(str(value))
    return (*flags, *settings.arguments)


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as problem:
            raise InputError(
                f"port {port} of {HOST} cannot be used: {problem.strerror}",
                hint="name another with --port, or 0 for any free one; if the server behind it is "
                "the one to use, set its base_url in the run file",
            ) from None
        return int(probe.getsockname()[1])


def _open_log(log: Path, *, append: bool) -> BinaryIO:
    """A file that the user named keeps what it holds; the one in the cache folder is replaced."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab" if append else "wb")
    except OSError as problem:
        raise InputError(f"{log}: cannot be written: {problem.strerror}") from None


def _start(
    install: VllmInstall, flags: tuple[str, ...], output: BinaryIO
) -> "subprocess.Popen[bytes]":
    quiet = ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY")
    environment = {**dict.fromkeys(quiet, "1"), **os.environ}
    return subprocess.Popen(
        [sys.executable, guard.__file__, install.python, "-m", _MODULE, *flags],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )


def _wait_until_healthy(
    server: VllmServer, port: int, settings: ServeOptions, on_wait: OnWait | None
) -> None:
    start = time.monotonic()
    while not _is_healthy(port):
        server.started_s = time.monotonic() - start
        if server._process.poll() is not None:
            raise why_it_ended(
                server.log,
                start=server._log_start,
                model=settings.model,
                version=server.install.version,
                status=server._process.returncode,
            )
        if server.started_s > settings.start_timeout_s:
            raise EngineError(
                f"the vLLM server was not up after {settings.start_timeout_s:g} s\n"
                f"{last_lines(server.log, server._log_start)}",
                hint=f"its whole log is {server.log}",
            )
        if on_wait is not None:
            on_wait(server.started_s, last_line(server.log, server._log_start))
        time.sleep(_POLL_S)
    server.started_s = time.monotonic() - start


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Close the pipe, which makes the guard end the server, and wait for that."""
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        process.wait(timeout=guard.GRACE_S + 10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
