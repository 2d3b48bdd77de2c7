"""A file system of a few megabytes, for whoever may mount one."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest


def in_namespace(mount: Path, command: list[str], *, size: str = "2m") -> list[str]:
    """Run a command with a small file system of its own at ``mount``, seen by nobody else."""
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount)]
    setup = f"{shlex.join(mounting)} && {shlex.join(command)}"
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", setup]


def skip_without_mounts(folder: Path) -> None:
    """Skip the test where the system does not let it mount."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare command to mount a small file system with")
    attempt = subprocess.run(in_namespace(folder, ["true"]), capture_output=True, check=False)
    if attempt.returncode != 0:
        pytest.skip("this system does not let tests mount a small file system")
