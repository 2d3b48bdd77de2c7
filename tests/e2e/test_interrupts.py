"""Ctrl-C at any moment: exit code 130, soon, and never a traceback."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.project import COMMAND, rlaif as command, write_project

ROWS = 60_000


@pytest.mark.slow
def test_ctrl_c_ends_a_resumed_run_with_parquet_prompts(tmp_path: Path) -> None:
    student = {"engine": "scripted", "model": "echo", "options": {"latency_ms": 40}}
    config = write_project(tmp_path, student=student)
    config.write_text(config.read_text().replace("prompts.jsonl", "prompts.parquet"))
    rows = [{"prompt": f"Question {i}: {'x' * 200}", "other": "y" * 500} for i in range(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "prompts.parquet", row_group_size=20_000)
    assert command("generate", config, "--limit", "40", cwd=tmp_path).returncode == 0
    for wait in (0.7, 1.3, 1.9, 2.5, 3.1, 3.7):
        child = subprocess.Popen(
            [*COMMAND, "generate", str(config)], stderr=subprocess.PIPE, text=True
        )
        time.sleep(wait)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=10)
        assert child.returncode == 130, errors
        assert "Traceback" not in errors
        assert "Exception" not in errors


@pytest.mark.parametrize("wait", [0.02, 0.06, 0.1, 0.2])
def test_ctrl_c_while_the_command_is_imported_gives_no_traceback(wait: float) -> None:
    program = (
        "import os, signal, threading\n"
        "from rlaif.cli import start\n"
        f"press = threading.Timer({wait}, os.kill, (os.getpid(), signal.SIGINT))\n"
        "press.daemon = True\n"
        "press.start()\n"
        "start.main()\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, "doctor"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == 130
    assert "interrupted" in child.stderr
    assert "Traceback" not in child.stderr


def test_a_reader_that_hangs_does_not_keep_the_command() -> None:
    program = (
        "import os, signal, sys, threading, time\n"
        "from rlaif.cli.main import app\n"
        "from rlaif.cli.start import main\n"
        "@app.command()\n"
        "def hang():\n"
        "    threading.Thread(target=time.sleep, args=(60,), name='rlaif-reader').start()\n"
        "    print('kept')\n"
        "    raise KeyboardInterrupt\n"
        "main()\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, "hang"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (child.returncode, child.stdout) == (130, "kept\n")
