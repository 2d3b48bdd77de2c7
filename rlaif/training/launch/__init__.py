"""Training on several GPUs or nodes: the same command, once per process.

``ddp`` copies the model to every process; ``fsdp2`` and ``zero2`` shard what does not fit. The
settings files beside this module are accelerate's; on a CPU there is only ``ddp``, over gloo, and
accelerate's own way there would need MPI, so torch starts the processes.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rlaif.errors import InputError

Strategy = Literal["ddp", "fsdp2", "zero2"]


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


def launch(strategy: Strategy, processes: int | None, command: Sequence[str]) -> int:
    """Start the processes, wait for them, and return the exit code.

    Args:
        strategy: How the model is spread.
        processes: How many; None is one per GPU, or two on a CPU.
        command: A Python script and its arguments.
    """
    import torch

    gpus = torch.cuda.device_count()
    count = processes or gpus or 2
    if gpus and count > gpus:
        raise InputError(f"--processes {count}: there are {gpus} GPUs")
    started = subprocess.Popen(launch_command(strategy, count, command, on_gpu=bool(gpus)))
    while True:
        try:
            return started.wait()
        except KeyboardInterrupt:
            continue  # the terminal has told the processes too; they save and stop
