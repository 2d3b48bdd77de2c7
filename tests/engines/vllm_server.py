"""A real vLLM server on this machine's CPU, started and stopped by whoever needs it."""

import contextlib
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("RLAIF_VLLM_PYTHON", ROOT / ".venv-vllm" / "bin" / "python"))


@contextlib.contextmanager
def vllm_serving(model: str, log: Path, *, name: str = "served") -> Iterator[str]:
    """Serve a model folder; yields the base_url once it is healthy, stops the server at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(str(PYTHON), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", model, "--served-model-name", name),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "float32", "--enforce-eager", "--max-model-len", "2048"),
        *("--max-num-seqs", "8", "--kv-cache-memory-bytes", "1000000000"),
    ]
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait(server, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, 9)
            server.wait()


def _wait(server: "subprocess.Popen[bytes]", health: str, log: Path, seconds: float = 400) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if server.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(health, timeout=2)
            return
        time.sleep(1)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise RuntimeError(f"the vLLM server did not come up:\n{tail}")
