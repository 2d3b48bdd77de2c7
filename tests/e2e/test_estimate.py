import json
from pathlib import Path

import rlaif
from rlaif.pipeline.estimate import estimate
from tests.e2e.project import rlaif as command, write_project


def test_a_dry_run_asks_nothing_and_its_calls_are_those_of_the_run(tmp_path: Path):
    config = write_project(tmp_path, prompts=60, judging={"principles": {"choose": {"k": 2}}})
    found = estimate(config)
    assert not (tmp_path / "run").exists()
    assert found.prompts == 60
    calls = {stage.purpose: stage.calls for stage in found.stages}
    status = rlaif.generate(config).status()
    assert calls == {total.purpose: total.calls for total in status.calls}
    assert found.price is None
    longest = 2 * 256 + 400  # two responses of as many tokens as they may have, and the template
    (judge,) = [stage for stage in found.stages if stage.purpose == "judge"]
    assert 2 * 256 < judge.prompt_tokens / judge.calls < longest


def test_a_dry_run_prices_what_has_a_price(tmp_path: Path):
    price = {"input_per_million": 1.0, "output_per_million": 10.0}
    student = {
        "engine": "openai",
        "model": "m",
        "base_url": "http://127.0.0.1:9/v1",
        "options": {"price": price},
        "sampling": {"n": 1, "max_tokens": 100},
    }
    config = write_project(tmp_path, prompts=10, student=student, constitution="concise", judges=[])
    done = command("generate", config, "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (stage,) = found["stages"]
    assert (stage["calls"], stage["completion_tokens"]) == (10, 1000)
    expected = (stage["prompt_tokens"] * 1.0 + 1000 * 10.0) / 1e6
    assert abs(found["price"] - expected) < 1e-12


def test_a_dry_run_says_whether_the_budget_will_do(tmp_path: Path):
    config = write_project(tmp_path, prompts=10, budget={"max_calls": 50, "max_tokens": 10**9})
    assert estimate(config).exceeded == ("max_calls: 50",)
    done = command("generate", config, "--dry-run", cwd=tmp_path)
    assert "the budget (max_calls: 50) may stop it before the end" in done.stdout
    assert estimate(config, overrides={"budget.max_calls": 10**6}).exceeded == ()


def test_canaries_are_counted_in_the_status(tmp_path: Path):
    config = write_project(tmp_path, prompts=20, judging={"canary": {"share": 0.5}})
    rlaif.generate(config)
    done = command("status", "run", "--json", cwd=tmp_path)
    canaries = json.loads(done.stdout)["canaries"]
    assert canaries["right"] + canaries["wrong"] > 3
    assert "known pairs" in command("status", "run", cwd=tmp_path).stdout
