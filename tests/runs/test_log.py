from pathlib import Path

from rlaif.runs.log import EventLog, read_log


def write(path: Path, *events: str) -> None:
    log = EventLog(path)
    for event in events:
        log(event, count=1, where=Path("x"))
    log.close()


def test_events_are_read_in_order(tmp_path):
    path = tmp_path / "log.jsonl"
    write(path, "started", "finished")
    assert [event["event"] for event in read_log(path)] == ["started", "finished"]
    assert next(read_log(path))["where"] == "x"
    assert next(read_log(path))["time"].endswith("+00:00")


def test_invalid_lines_are_skipped(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'nonsense\n[]\n{"event": "started"}\n{"event": "torn')
    assert [event["event"] for event in read_log(path)] == ["started"]


def test_a_torn_line_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"event": "torn')
    write(path, "started")
    assert [event["event"] for event in read_log(path)] == ["started"]


def test_a_missing_log_has_no_events(tmp_path):
    assert list(read_log(tmp_path / "log.jsonl")) == []
