"""Text from a server, a model or a foreign file does nothing to the terminal it is shown on."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from rlaif.cli import output
from rlaif.records import Failure
from rlaif.runs.failures import append_failures
from rlaif.runs.manifest import load_manifest, write_manifest
from rlaif.runs.text import one_line, safe_json, safe_text
from tests.e2e.project import COMMAND, rlaif, write_project

EVIL = "\x1b[2J\x1b]0;title\x07\x1b]52;c;cm0=\x07\x9b31m\x7f\b\rsafe\u202egnp\u2066\u2028x\u061c"
DRIVERS = [c for c in EVIL if not c.isprintable()]


def drives(text: str) -> list[str]:
    """The characters in it that do something other than show."""
    return [c for c in text if not c.isprintable() and c not in "\n\t"]


def test_every_character_that_drives_a_terminal_is_shown_as_an_escape():
    assert safe_text(EVIL).startswith(r"\x1b[2J\x1b]0;title\x07")
    assert drives(safe_text(EVIL)) == []
    assert [len(safe_text(c)) for c in DRIVERS] == [4 if ord(c) < 256 else 6 for c in DRIVERS]
    assert safe_text("a\tb\r\nc\ud800") == "a\tb\nc\\ud800"
    assert safe_text("naïve 🙂 中文 👩\u200d🔬") == "naïve 🙂 中文 👩\u200d🔬"


def test_one_line_is_one_line_of_the_same():
    assert one_line(" a\n\x1b[2J\u2028b ", 80) == r"a \x1b[2J b"
    assert one_line("x" * 90, 10) == "x" * 9 + "…"


def test_json_reads_as_the_same_value():
    value = {EVIL.replace("\x1b", ""): [EVIL, {"a": EVIL}]}
    data = safe_json(json.dumps(value, ensure_ascii=False).encode())
    assert json.loads(data) == value
    assert drives(data.decode()) == []


def test_tables_keep_their_own_styles_only(capsys: pytest.CaptureFixture[str]):
    table = Table(title=f"t{EVIL}")
    table.add_column(EVIL)
    table.add_row(EVIL, style="red")
    output.make_console(markup=False, force_terminal=True, color_system="standard").print(table)
    shown = capsys.readouterr().out
    assert "\x1b[31m" in shown
    for own in ("\x1b[31m", "\x1b[0m", "\x1b[1m", "\x1b[3m", "\x1b[1;31m"):
        shown = shown.replace(own, "")
    assert drives(shown) == []


def test_records_of_the_log_are_safe(capsys: pytest.CaptureFixture[str]):
    handler = logging.lastResort
    assert handler is not None
    kept = handler.formatter, sys.excepthook
    try:
        output.make_diagnostics_safe()
        record = logging.LogRecord("x", logging.WARNING, "x", 1, "server: %s", (EVIL,), None)
        handler.handle(record)
        sys.excepthook(ValueError, ValueError(EVIL), None)
    finally:
        handler.formatter, sys.excepthook = kept
    shown = capsys.readouterr().err
    assert "server: " in shown
    assert "ValueError" in shown
    assert drives(shown) == []


def test_an_error_is_shown_with_escapes(tmp_path: Path):
    (tmp_path / "evil.yaml").write_text("name: x\n")
    found = rlaif("generate", f"no{EVIL}file.yaml", cwd=tmp_path)
    assert found.returncode == 2
    assert drives(found.stderr) == []
    found = rlaif("generate", f"--no{EVIL}", cwd=tmp_path)
    assert found.returncode == 2
    assert drives(found.stderr) == []


@pytest.fixture(scope="module")
def foreign_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of somebody who wants to drive our terminal."""
    folder = tmp_path_factory.mktemp("foreign")
    assert rlaif("generate", write_project(folder, prompts=4), cwd=folder).returncode == 0
    run = folder / "run"
    manifest = load_manifest(run)
    write_manifest(
        run, manifest.model_copy(update={"name": f"n{EVIL}", "notices": (f"a\nnotice{EVIL}",)})
    )
    append_failures(
        run / "failures.jsonl", [Failure(record_id="x", stage=EVIL, kind=EVIL, message=EVIL)]
    )
    with (run / "log.jsonl").open("a") as log:
        log.write(json.dumps({"event": "stopped", "error": EVIL}) + "\n")
    return run


@pytest.mark.parametrize(
    "words",
    [["status"], ["status", "--json"], ["constitution", "explain"], ["export", "--out", "x"]],
    ids=" ".join,
)
def test_a_foreign_run_is_shown_with_escapes(foreign_run: Path, tmp_path: Path, words: list[str]):
    verb = words[:2] if words[0] == "constitution" else words[:1]
    found = subprocess.run(
        [*COMMAND, *verb, str(foreign_run), *words[len(verb) :]],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    shown = (found.stdout + found.stderr).decode()
    assert found.returncode == 0, shown
    assert drives(shown) == []
    if "--json" in words:
        said: dict[str, Any] = json.loads(found.stdout)
        assert said["notices"] == [f"a\nnotice{EVIL}"]
        assert said["failures"] == {EVIL: 1}
    elif verb == ["status"]:
        assert r"notice      a\nnotice\x1b[2J" in shown
