"""Training on several GPUs or nodes: the same command, once per process.

``ddp`` copies the model to every process; ``fsdp2`` and ``zero2`` shard what does not fit. The
settings files beside this module are accelerate's; on a CPU there is only ``ddp``, over gloo, and
accelerate's own way there would need MPI, so torch starts the processes. Several nodes are
described in a settings file, as `accelerate config` writes it: give its path as the
strategy, and the same command on every node, with its ``machine_rank``.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rlaif.config.load import nearest
from rlaif.errors import InputError

Strategy = Literal["ddp", "fsdp2", "zero2"]
STRATEGIES: tuple[Strategy, ...] = ("ddp", "fsdp2", "zero2")


def launch_command(
    strategy: Strategy, processes: int, command: Sequence[str], *, on_gpu: bool
) -> list[str]:
    """Return the command that starts ``command``, a Python script and its arguments, N times.

    Raises:
        InputError: The strategy needs GPUs.
    """
    if on_gpu:
        settings = Path(__file__).with_name(f"{strategy}.yaml")
        launcher = ["accelerate.commands.launch", "--config_file", str(settings)]
        return [sys.executable, "-m", *launcher, "--num_processes", str(processes), *command]
    if strategy != "ddp":
        raise InputError(f"--launch {strategy} needs GPUs", hint="on a CPU use --launch ddp")
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, "-m", *launcher, *command]


def launch_own(settings: Path, processes: int | None, command: Sequence[str]) -> list[str]:
    """Return the command that starts ``command`` as an accelerate settings file says.

    Raises:
        InputError: The file is missing, or not a settings file of accelerate.
    """
    from accelerate.commands.config.config_args import load_config_from_file

    if not settings.is_file():
        raise InputError(f"--launch {settings}: no such file")
    try:
        load_config_from_file(str(settings))
    except Exception as problem:  # noqa: BLE001 - accelerate and YAML raise all kinds
        first = str(problem).strip().splitlines()[0]
        raise InputError(
            f"--launch {settings}: not a settings file of accelerate: {first}"
        ) from None
    launcher = ["accelerate.commands.launch", "--config_file", str(settings)]
    count = [] if processes is None else ["--num_processes", str(processes)]
    return [sys.executable, "-m", *launcher, *count, *command]


def start_processes(
    strategy: str | None,
    processes: int | None,
    command: Sequence[str],
    *,
    allowed: Sequence[Strategy] = STRATEGIES,
) -> int | None:
    """Run a command once per process and return its exit code; None in the processes themselves.

    Args:
        strategy: A name, the path of an accelerate settings file, or None for one process.
        processes: See `launch`.
        command: A Python script and its arguments.
        allowed: Strategies that the trainer can work with.

    Raises:
        InputError: An unknown strategy, one that the trainer does not support, or no GPUs for it.
    """
    if strategy is None and processes is not None:
        raise InputError("--processes needs --launch", hint="--launch ddp")
    if strategy in STRATEGIES and strategy not in allowed:
        raise InputError(
            f"--launch {strategy}: this trainer can only be launched with {', '.join(allowed)}",
            hint="see docs/ppo.md",
        )
    if strategy is None or "RANK" in os.environ:
        return None
    if strategy.endswith((".yaml", ".yml")):
        return launch(Path(strategy), processes, command)
    named: Strategy | None = next((name for name in STRATEGIES if name == strategy), None)
    if named is None:
        raise InputError(f"--launch {strategy}: unknown{nearest(strategy, STRATEGIES)}")
    return launch(named, processes, command)


def launch(strategy: Strategy | Path, processes: int | None, command: Sequence[str]) -> int:
    """Start the processes, wait for them, and return the exit code.

    Args:
        strategy: How the model is spread, or an accelerate settings file.
        processes: How many; None is one per GPU, two on a CPU, or what the file says.
        command: A Python script and its arguments.
    """
    if isinstance(strategy, Path):
        return _wait(launch_own(strategy, processes, command))
    import torch

    gpus = torch.cuda.device_count()
    count = processes or gpus or 2
    if gpus and count > gpus:
        raise InputError(f"--processes {count}: this machine has {gpus} GPUs")
    return _wait(launch_command(strategy, count, command, on_gpu=bool(gpus)))


def _wait(command: Sequence[str]) -> int:
    started = subprocess.Popen(command)
    while True:
        try:
            return started.wait()
        except KeyboardInterrupt:
            continue  # the processes have received it from the terminal too; they save and stop
