"""The benches still run, with few repetitions: what they assert holds, what they print is there."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def bench(name: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / name), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_killed_runs_over_a_faulty_server_lose_nothing_and_pay_nothing_twice():
    said = bench("bench_kills", "2", "--stops", "0")
    assert '"prompts": 120' in said


@pytest.mark.slow
def test_a_term_signal_drains_and_leaves_a_resumable_run():
    assert "SIGTERM: out after" in bench("bench_kills", "0", "--stops", "1")


@pytest.mark.slow
def test_the_scripted_engine_is_asked_four_times_a_prompt_and_never_again():
    assert "repeating the finished run of 30 prompts: 0 calls" in bench("bench_memory", "30")


@pytest.mark.slow
def test_the_bare_loop_and_both_transports_make_the_same_requests():
    said = bench("bench_generation", "20", "--no-tail")
    assert "| rlaif, fast | 512 |" in said
