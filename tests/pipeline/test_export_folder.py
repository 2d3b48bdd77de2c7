"""What an export may replace, and what a killed one leaves."""

import importlib
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlaif.errors import InputError, RunError
from rlaif.pipeline import export
from rlaif.pipeline.export import FORMATS
from rlaif.pipeline.export.folder import FILES, MARKER
from rlaif.pipeline.export.shape import DATA_FILE
from rlaif.runs import Run, open_run
from tests.e2e.project import rlaif
from tests.pipeline.exported import make_run

WRITER = importlib.import_module("rlaif.pipeline.export.export")

OLD_CARD = """\
---
configs:
- config_name: default
  data_files: data/*.parquet
tags: [rlaif, constitutional-ai]
---
# demo: pairs
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from importlib import import_module
from rlaif.pipeline import export

moment, run, out = sys.argv[1:]
rename, left = Path.rename, int(moment) if moment.isdigit() else 0


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def rename_some(path, target):
    global left
    left -= 1
    return die() if left < 0 else rename(path, target)


if moment == "writing":
    import_module("rlaif.pipeline.export.export").data_card = die
elif moment == "removing":
    import shutil
    shutil.rmtree = die
else:
    Path.rename = rename_some
export(run, out, min_margin=0.5, force=True)
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(out: Path) -> int:
    return int(pq.read_metadata(out / DATA_FILE).num_rows)


def refused(run: Run, out: Path | str, match: str, kept: Path, **options: Any) -> None:
    before = contents(kept)
    with pytest.raises(InputError, match=match):
        export(run, out, **options)
    assert contents(kept) == before


@pytest.mark.parametrize(
    ("to", "what"), [(to, what) for to in FORMATS for what in FORMATS[to].shapes]
)
def test_force_replaces_an_export_of_every_format(to: str, what: str, tmp_path: Path):
    run, out = make_run(tmp_path, revised=True), tmp_path / "out"
    export(run, out, to=to, what=what)
    assert set(contents(out)) <= FILES
    export(run, out, what="demonstrations", force=True)
    assert json.loads((out / MARKER).read_text())["what"] == "demonstrations"
    assert set(contents(out)) == {MARKER, "README.md", DATA_FILE}
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out"}


def test_force_replaces_an_export_of_an_earlier_version(run: Run, tmp_path: Path):
    out = tmp_path / "out"
    export(run, out)
    (out / MARKER).unlink()
    (out / "README.md").write_text(OLD_CARD)
    export(run, out, min_margin=0.5, force=True)
    assert rows(out) == 2


def test_the_run_and_what_lies_above_it_are_never_replaced(run: Run, tmp_path: Path):
    for force in (True, False):
        for out in (run.path, tmp_path, tmp_path / "run" / ".." / "run", tmp_path / "run" / ".."):
            refused(run, out, r"is or holds the run \(", tmp_path, force=force)
    (tmp_path / "link").symlink_to(run.path)
    refused(run, tmp_path / "link", "is or holds the run", tmp_path, force=True)
    assert open_run(run.path).status().rows == 3


def test_not_even_an_export_is_replaced_when_the_run_lies_inside_it(run: Run, tmp_path: Path):
    export(run, tmp_path / "out")
    inside = tmp_path / "out" / "run"
    run.path.rename(inside)
    refused(open_run(inside), tmp_path / "out", "is or holds the run", tmp_path, force=True)


def test_parts_of_a_run_are_never_replaced(run: Run, tmp_path: Path):
    refused(run, run.path / "shards", "not an export", tmp_path, force=True)


@pytest.mark.parametrize("out", [".", "..", "../project", "/"])
def test_the_current_folder_is_never_replaced(
    out: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project = tmp_path / "a" / "project"
    export(run, project)
    monkeypatch.chdir(project)
    refused(run, out, "is or holds the", tmp_path, force=True)


def test_an_empty_current_folder_is_not_replaced_either(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    refused(run, ".", "is or holds the current folder", tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.tex": "years of work"},
        {"README.md": "# mine", DATA_FILE: "mine"},
        {"README.md": OLD_CARD},  # a card alone is no export
        {"README.md": OLD_CARD, DATA_FILE: "", "notes/idea.md": "mine"},
        {MARKER: "{}", "notes.md": "mine"},
        {MARKER: "not JSON", DATA_FILE: ""},
        {MARKER: "{}", f"{DATA_FILE}.bak": "mine"},
    ],
)
def test_whatever_no_export_wrote_is_never_replaced(
    files: dict[str, str], run: Run, tmp_path: Path
):
    out = tmp_path / "out"
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    refused(run, out, "not an export|no export wrote", tmp_path, force=True)
    refused(run, out, "already holds files", tmp_path)


def test_a_file_in_the_way_is_named(run: Run, tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    refused(run, tmp_path / "out", "is a file, not a folder", tmp_path, force=True)
    with pytest.raises(RunError, match="cannot be written"):
        export(run, tmp_path / "out" / "below")


def test_behind_a_link_the_folder_is_replaced_and_the_link_stays(run: Run, tmp_path: Path):
    export(run, tmp_path / "big-disk" / "pairs")
    (tmp_path / "pairs").symlink_to(tmp_path / "big-disk" / "pairs")
    export(run, tmp_path / "pairs", min_margin=0.5, force=True)
    assert (tmp_path / "pairs").is_symlink()
    assert rows(tmp_path / "big-disk" / "pairs") == 2


def test_files_that_appear_during_the_export_are_kept(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"

    def appear(*_: Any, **__: Any) -> str:
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")
        return "card"

    monkeypatch.setattr(WRITER, "data_card", appear)
    with pytest.raises(InputError, match="not an export"):
        export(run, out, force=True)
    assert list(contents(out)) == ["thesis.tex"]
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out"}


def test_a_failed_export_leaves_the_old_one_and_nothing_beside_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    export(run, out)
    before, rename = contents(out), Path.rename

    def fail(path: Path, target: Path) -> Path:
        if target == out and path.suffix == ".tmp":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(RunError, match="disk is full"):
        export(run, out, min_margin=0.5, force=True)
    assert contents(out) == before
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out"}


@pytest.mark.parametrize(
    ("moment", "there"), [("writing", 3), ("0", 3), ("1", None), ("removing", 2)]
)
def test_after_a_kill_at_any_moment_the_next_export_finds_the_old_or_the_new(
    moment: str, there: int | None, run: Run, tmp_path: Path
):
    out = tmp_path / "out"
    export(run, out)
    killed = subprocess.run([sys.executable, "-c", KILLED, moment, run.path, out], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (rows(out) if out.exists() else None) == there
    assert {path.name for path in tmp_path.iterdir()} > {"run"}
    with pytest.raises(InputError, match="already holds files"):  # the old is back in its place
        export(run, out)
    assert rows(out) == (there or 3)
    export(run, out, min_margin=0.5, force=True)
    assert rows(out) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out"}


def test_tidying_leaves_other_exports_and_folders_of_others_alone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    strangers = (".out.0123abcd.tmp", ".out.0123abcd.tmp.old", ".out.notes.tmp", ".other.0a.tmp")
    for name in strangers:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("years of work")
    writing, go_on = threading.Event(), threading.Event()

    def wait(*_: Any, **__: Any) -> str:
        writing.set()
        assert go_on.wait(30)
        return "first"

    monkeypatch.setattr(WRITER, "data_card", wait)
    first = threading.Thread(target=export, args=(run, tmp_path / "out"), kwargs={"force": True})
    first.start()
    assert writing.wait(30)
    monkeypatch.setattr(WRITER, "data_card", lambda *_, **__: "second")
    export(run, tmp_path / "out")
    go_on.set()
    first.join()
    assert (tmp_path / "out" / "README.md").read_text().startswith("first")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "out", *strangers}


def test_the_command_refuses_with_exit_code_2_and_one_line(run: Run, tmp_path: Path):
    found = rlaif("export", "run", "--out", "run", "--force", cwd=tmp_path)
    assert (found.returncode, "is or holds the run" in found.stderr) == (2, True)
    assert "Traceback" not in found.stderr
    assert open_run(run.path).status().rows == 3


def test_revisions_are_chosen_only_where_there_are_some(tmp_path: Path):
    run = make_run(tmp_path, revised=True)
    with pytest.raises(InputError, match="--revisions all: has no effect on pairs"):
        export(run, tmp_path / "out", what="pairs", revisions="all")
    every = export(run, tmp_path / "all", what="revisions", revisions="all")
    last = export(run, tmp_path / "last", what="revisions")
    assert every.records >= last.records > 0
    assert json.loads((tmp_path / "all" / MARKER).read_text())["revisions"] == "all"
    with pytest.raises(InputError, match="--revisions al: unknown"):
        export(run, tmp_path / "out", what="revisions", revisions="al")  # type: ignore[arg-type]
