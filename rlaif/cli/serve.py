"""`rlaif serve`: a local vLLM server, until Ctrl-C."""

import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from rlaif.cli.output import make_console, print, print_json
from rlaif.engines.vllm.server import OnWait, VllmServer, serve_vllm

_EVERY_S = 10.0
_PLAIN = re.compile(r"[A-Za-z][\w./@:-]*")
_NOT_TEXT = ("true", "false", "null")


def serve(  # noqa: PLR0913 - one option per setting, as users expect
    context: typer.Context,
    model: Annotated[str, typer.Option(help="A shipped name, a folder, a GGUF file or a hub id.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8000,
    name: Annotated[
        str | None,
        typer.Option(
            help="What requests call the model (default: its name; for a folder, with its hash)."
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Of a hub id.")] = None,
    dtype: Annotated[
        str, typer.Option(help="auto (float32 on a CPU), float32, bfloat16, float16.")
    ] = "auto",
    max_model_len: Annotated[
        int | None, typer.Option(help="Most tokens of prompt and reply.")
    ] = None,
    max_num_seqs: Annotated[int | None, typer.Option(help="Sequences at a time.")] = None,
    kv_cache_gib: Annotated[
        float | None,
        typer.Option("--kv-cache-gib", help="GiB for the key-value cache (default: 2 on a CPU)."),
    ] = None,
    gpu_memory_utilization: Annotated[
        float | None, typer.Option(help="Share of GPU memory to take (default: 0.9).")
    ] = None,
    tensor_parallel: Annotated[int, typer.Option(help="GPUs that share the weights.")] = 1,
    chat_template: Annotated[
        Path | None, typer.Option(help="A Jinja file, for models without one.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with a model.")
    ] = False,
    python: Annotated[
        str | None,
        typer.Option(help="An interpreter that has vLLM, such as .venv-vllm/bin/python."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(help="Append the server's log here (default: a file in the cache folder)."),
    ] = None,
    start_timeout_s: Annotated[float, typer.Option(help="Longest wait until it is up.")] = 1800.0,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout once it is up.")
    ] = False,
) -> None:
    """Serve a model with vLLM on 127.0.0.1 until Ctrl-C. What follows -- goes to vLLM as it is."""
    options = {
        "port": port,
        "name": name,
        "revision": revision,
        "dtype": dtype,
        "max_model_len": max_model_len,
        "max_num_seqs": max_num_seqs,
        "kv_cache_gib": kv_cache_gib,
        "gpu_memory_utilization": gpu_memory_utilization,
        "tensor_parallel": tensor_parallel,
        "chat_template": None if chat_template is None else str(chat_template),
        "trust_remote_code": trust_remote_code,
        "python": python,
        "log": None if log is None else str(log),
        "start_timeout_s": start_timeout_s,
        "arguments": tuple(context.args),
    }
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with ExitStack() as running:
            with _shown_wait(model) as on_wait:
                server = running.enter_context(serve_vllm(model, on_wait=on_wait, **options))
            _print_server(server, json=json)
            server.wait()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)  # how a server is meant to end


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _print_server(server: VllmServer, *, json: bool) -> None:
    install = server.install
    kind = "a CPU" if install.cpu else "GPU"
    print(
        f"up after {server.started_s:.0f} s: vLLM {install.version} on {kind}; its log is "
        f"{server.log}; Ctrl-C stops it",
        file=sys.stderr,
    )
    if json:
        facts = {
            "event": "serving",
            "pid": server.pid,
            "log": str(server.log),
            "vllm": install.version,
            "cpu": install.cpu,
            "started_s": round(server.started_s, 1),
            "flags": list(server.flags),
            **server.engine_config,
        }
        print_json(facts)
    else:
        print("# for student: or a judge in a run file")
        print("\n".join(yaml_lines(server.engine_config)))
    sys.stdout.flush()


def yaml_lines(config: Mapping[str, Any]) -> list[str]:
    """Return an engine config as the lines of a run file."""
    return [f"{key}: {_flow(value)}" for key, value in config.items()]


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    return orjson.dumps(value).decode()


@contextmanager
def _shown_wait(model: str) -> Iterator[OnWait]:
    """Yield a callback that shows what a starting server does: a live line, or one now and then."""
    if not sys.stderr.isatty():
        yield _now_and_then(model)
        return
    from rich.markup import escape

    console = make_console(stderr=True)
    with console.status(f"starting vLLM with {escape(model)}") as live:

        def show(seconds: float, line: str) -> None:
            room = max(20, console.width - 40 - len(model))
            live.update(
                f"starting vLLM with {escape(model)}: {seconds:.0f} s · {escape(line[-room:])}"
            )

        yield show


def _now_and_then(model: str) -> OnWait:
    printed_at = 0.0

    def show(seconds: float, line: str) -> None:
        nonlocal printed_at
        if printed_at == 0.0 or time.monotonic() - printed_at >= _EVERY_S:
            printed_at = time.monotonic()
            print(f"starting vLLM with {model}: {seconds:.0f} s · {line[-160:]}", file=sys.stderr)

    return show
