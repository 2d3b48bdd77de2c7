"""Starting and stopping a vLLM server, with a stand-in for vLLM: what fails and what is left."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from rlaif.config import load_yaml
from rlaif.engines.vllm.options import VllmOptions, engine_arguments, weights_format
from rlaif.engines.vllm.server import ServeOptions, serve_vllm, server_flags
from rlaif.errors import ConfigError, EngineError, EngineMissing, InputError
from tests.e2e.project import COMMAND, rlaif
from tests.engines.fake_vllm import write_fake_vllm


@pytest.fixture
def python(tmp_path: Path) -> str:
    return str(write_fake_vllm(tmp_path / "env"))


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "server.log")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def pids_in(file: Path) -> list[int]:
    return [int(pid) for pid in file.read_text().split()]


def wait_until_gone(pids: list[int], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < until, "a process is left behind"
        time.sleep(0.05)


def test_a_server_is_healthy_inside_and_gone_with_its_children_afterwards(python, log, tmp_path):
    children, seen = tmp_path / "pids", []
    with serve_vllm(
        "some/model",
        python=python,
        log=log,
        arguments=("--child", str(children)),
        on_wait=lambda *said: seen.append(said),
    ) as server:
        pids = pids_in(children)
        assert all(is_alive(pid) for pid in pids)
        assert server.engine_config["base_url"] == server.base_url
        assert server.model == "some/model"
        assert (server.install.version, server.install.cpu) == ("9.8", True)
    wait_until_gone(pids)
    assert seen
    assert "loading some/model" in Path(log).read_text()


def test_an_error_inside_stops_the_server_too(python, log, tmp_path):
    children = tmp_path / "pids"
    with (
        pytest.raises(ZeroDivisionError),
        serve_vllm("some/model", python=python, log=log, arguments=("--child", str(children))),
    ):
        raise ZeroDivisionError
    wait_until_gone(pids_in(children))


def test_a_server_that_ends_while_starting_says_why(python, log):
    with (
        pytest.raises(
            EngineError, match=r"exit status 7.*ValueError: the cause of it all"
        ) as ended,
        serve_vllm("some/model", python=python, log=log, arguments=("--end", "now")),
    ):
        pass
    assert "| loading some/model" in ended.value.message
    assert log in ended.value.hint


def test_a_named_log_keeps_what_it_held_and_only_new_words_count(python, log):
    before = "prompts: mine\nValueError: an older cause\n"
    Path(log).write_text(before)
    with (
        pytest.raises(EngineError, match="ValueError: the cause of it all") as ended,
        serve_vllm("some/model", python=python, log=log, arguments=("--end", "now")),
    ):
        pass
    assert "mine" not in ended.value.message
    assert Path(log).read_text().startswith(f"{before}loading some/model")


def test_an_argument_that_vllm_does_not_know_is_named(python, log):
    with (
        pytest.raises(ConfigError, match=r"vLLM 9\.8 does not support --no-such-thing"),
        serve_vllm("some/model", python=python, log=log, arguments=("--no-such-thing",)),
    ):
        pass


def test_a_model_that_nobody_has_is_named(python, log):
    with (
        pytest.raises(EngineMissing, match="model 'nobody/nothing' not found"),
        serve_vllm("nobody/nothing", python=python, log=log),
    ):
        pass


@pytest.mark.parametrize(
    ("model", "message"),
    [("smollm2-135m-instrct", "smollm2-135m-instruct"), ("./nowhere", "file or folder not found")],
)
def test_a_slip_in_the_model_is_said_before_anything_starts(python, log, model, message):
    with (
        pytest.raises((EngineMissing, InputError), match=message),
        serve_vllm(model, python=python, log=log),
    ):
        pass
    assert not Path(log).exists()


def test_a_taken_port_is_said_before_anything_starts(python, log):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"port {port}") as taken,
            serve_vllm("some/model", python=python, log=log, port=port),
        ):
            pass
    assert "--port" in taken.value.hint


def test_an_environment_without_vllm_says_how_to_install_it(tmp_path, log):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{COMMAND[0]}" -S -I "$@"\n')
    bare.chmod(0o755)
    with (
        pytest.raises(EngineMissing, match="vLLM is not installed for") as missing,
        serve_vllm("some/model", python=str(bare), log=log),
    ):
        pass
    assert "scripts/install-vllm" in missing.value.hint


def test_what_is_no_interpreter_is_refused(tmp_path, log):
    with (
        pytest.raises(InputError, match="not a working Python"),
        serve_vllm("some/model", python=str(tmp_path / "nothing"), log=log),
    ):
        pass


@pytest.mark.parametrize("argument", ["--port=1", "--model", "--served_model_name=x"])
def test_what_rlaif_decides_cannot_be_passed_on(argument):
    with (
        pytest.raises(ConfigError, match="an option of rlaif serve"),
        serve_vllm("some/model", arguments=(argument,)),
    ):
        pass


def test_a_folder_is_served_under_a_name_that_tells_its_weights(python, log, tmp_path):
    names = []
    folder = tmp_path / "policy"
    folder.mkdir()
    for weights in (b"one", b"two"):
        (folder / "model.safetensors").write_bytes(weights)
        with serve_vllm(str(folder), python=python, log=log) as server:
            names.append(server.model)
    assert names[0] != names[1]
    assert all(name.startswith("policy@") for name in names)


def test_flags_for_a_cpu_and_for_a_gpu():
    settings = ServeOptions(model="m", max_model_len=512, arguments=("--seed", "1"))
    cpu = server_flags(settings, place="m", name="m", port=1, cpu=True)
    gpu = server_flags(settings, place="m", name="m", port=1, cpu=False)
    for flags in (cpu, gpu):
        assert flags[flags.index("--host") + 1] == "127.0.0.1"
        assert flags[flags.index("--generation-config") + 1] == "vllm"
        assert flags[flags.index("--max-model-len") + 1] == "512"
        assert {"--enable-prefix-caching", "--enable-prompt-tokens-details"} <= set(flags)
        assert flags[-2:] == ("--seed", "1")
    assert {"--enforce-eager", "--kv-cache-memory-bytes", "--max-num-seqs"} <= set(cpu)
    assert cpu[cpu.index("--dtype") + 1] == "float32"
    assert gpu[gpu.index("--gpu-memory-utilization") + 1] == "0.9"
    assert "--enforce-eager" not in gpu


def test_a_share_of_the_memory_and_a_size_of_the_cache_are_passed_as_given():
    share = engine_arguments(VllmOptions(gpu_memory_utilization=0.3), cpu=True)
    assert share["gpu_memory_utilization"] == 0.3
    assert "kv_cache_memory_bytes" not in share
    size = engine_arguments(VllmOptions(kv_cache_gib=0.5, tensor_parallel=2), cpu=False)
    assert size["kv_cache_memory_bytes"] == 2**29
    assert size["tensor_parallel_size"] == 2
    assert "gpu_memory_utilization" not in size


def test_pickled_weights_are_read_only_where_the_user_says_so():
    assert weights_format("some/model") == {"load_format": "safetensors"}
    assert weights_format("/models/x.gguf") == weights_format("s3://bucket/model") == {}
    settings = ServeOptions(model="some/model", arguments=("--load-format", "auto"))
    flags = server_flags(settings, place="some/model", name="m", port=1, cpu=True)
    assert [flags[i + 1] for i, flag in enumerate(flags) if flag == "--load-format"] == [
        "safetensors",
        "auto",
    ]  # the last one counts


def start_command(python: str, tmp_path: Path, *words: str) -> "subprocess.Popen[bytes]":
    arguments = ["serve", "--model", "some/model", "--port", "0", "--python", python]
    arguments += ["--log", str(tmp_path / "log"), *words]
    return subprocess.Popen(
        [*COMMAND, *arguments, "--", "--child", str(tmp_path / "pids")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_what_a_run_file_needs_and_ends_cleanly(python, tmp_path, stop):
    with start_command(python, tmp_path) as command:
        assert command.stdout is not None
        lines = [command.stdout.readline().decode() for _ in range(5)]
        command.send_signal(stop)
        _, errors = command.communicate(timeout=60)
    assert command.returncode == 0, errors
    file = tmp_path / "engine.yaml"
    file.write_text("".join(lines))
    config = load_yaml(file, ConfigError).data
    assert config["engine"] == "openai"
    assert config["model"] == "some/model"
    assert config["base_url"].startswith("http://127.0.0.1:")
    assert config["options"] == {"transport": "fast", "prefill": True, "score": "vllm"}
    assert b"starting vLLM with some/model" in errors
    wait_until_gone(pids_in(tmp_path / "pids"))


def test_nothing_outlives_a_command_that_was_killed(python, tmp_path):
    with start_command(python, tmp_path, "--json") as command:
        assert command.stdout is not None
        facts = json.loads(command.stdout.readline())
        command.kill()
        command.communicate(timeout=60)
    wait_until_gone([facts["pid"], *pids_in(tmp_path / "pids")])


def test_a_server_that_dies_ends_the_command(python, tmp_path):
    with start_command(python, tmp_path, "--json") as command:
        assert command.stdout is not None
        assert json.loads(command.stdout.readline())["event"] == "serving"
        server, child = pids_in(tmp_path / "pids")
        os.kill(server, signal.SIGKILL)
        _, errors = command.communicate(timeout=60)
    assert command.returncode == 1
    assert b"the vLLM server ended" in errors
    assert b"Traceback" not in errors
    wait_until_gone([child])


def test_a_missing_vllm_ends_the_command_with_2(tmp_path):
    done = rlaif("serve", "--model", "some/model", "--python", "/nowhere/python", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
