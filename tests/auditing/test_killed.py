"""An audit that is killed again and again ends as one that was not."""

import json
from pathlib import Path

import rlaif
from tests.auditing.planted import write_gold
from tests.e2e.killing import finish_under_kills, replies


def test_kills_at_any_moment_change_no_reply_and_no_figure_of_an_audit(tmp_path: Path):
    gold = write_gold(tmp_path / "gold.jsonl", 80)
    slow = {"options": {"latency_ms": 25, "failure_rate": 0.1}}
    judge = {"name": "main", "engine": "scripted", "model": "judge-random", **slow}
    config = {"judges": [judge], "concurrency": 4, "out": "killed"}
    (tmp_path / "audit.yaml").write_text(json.dumps(config))
    whole = tmp_path / "whole"
    rlaif.audit_judge(tmp_path / "audit.yaml", [gold], overrides={"out": str(whole)})
    out = tmp_path / "killed"
    kept = replies(out)

    def look() -> None:
        found = replies(out)
        assert kept.items() <= found.items(), "a recorded reply has changed or gone"
        kept.update(found)

    words = ["audit", str(tmp_path / "audit.yaml"), "--gold", str(gold)]
    assert (
        finish_under_kills(words, kills=5, progress=lambda: len(replies(out)), after_kill=look) >= 2
    )
    assert replies(out) == replies(whole)
    first, second = (json.loads((path / "audit.json").read_text()) for path in (whole, out))
    assert first == second
