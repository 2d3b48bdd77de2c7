"""llama.cpp's own server, out of the wheel that holds it. Runs on the Python of .venv-llamacpp:

    .venv-llamacpp/bin/python tests/engines/llama_cpp.py model.gguf 4096 [API_KEY]

Prints its address once it answers, and ends when its standard input does.
"""

import sys

import xllamacpp  # type: ignore[import-not-found]

SLOTS = 4


def main(model: str, context: str, *keys: str) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {"small"}
    params.n_ctx = int(context)
    params.n_parallel = SLOTS
    params.kv_unified = True  # or each slot has a fourth of the context
    params.warmup = False
    # Several spin while they wait for each other: on shared cores that takes 20 times as long.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.api_keys = list(keys)
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
