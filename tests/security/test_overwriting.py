"""A file named on the command line replaces no other, unless that is asked for."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlaif.cli.main import main
from tests.auditing.runs import make_run

VOTES = {
    "metadata": {"version": "2.0"},
    "annotators": {"p": {"name": "p", "type": "principle", "description": "Be kind."}},
    "comparisons": [],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("overwriting")
    make_run(folder, prompts=2)
    (folder / "votes.json").write_text(json.dumps(VOTES))
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    monkeypatch.chdir(folder)

    def call(words: str) -> int:
        monkeypatch.setattr("sys.argv", ["rlaif", *words.split()])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(str(ended.value.code))

    return call


@pytest.mark.parametrize(
    "words",
    [
        "constitution schema --out {}",
        "constitution explain run --annotated-pairs {}",
        "constitution import-votes votes.json --gold {}",
    ],
)
def test_a_file_that_exists_is_left_alone_unless_forced(
    folder: Path, run: Callable[[str], int], capsys: pytest.CaptureFixture[str], words: str
):
    mine = folder / "mine.txt"
    mine.write_text("mine")
    assert run(words.format("mine.txt")) == 2
    assert mine.read_text() == "mine"
    assert "mine.txt: exists already" in capsys.readouterr().err
    elsewhere = folder / "elsewhere"
    link = folder / "link"
    link.unlink(missing_ok=True)
    link.symlink_to(elsewhere)
    assert run(words.format("link")) == 2
    assert not elsewhere.exists()
    assert run(words.format("mine.txt --force")) == 0
    assert mine.read_text() != "mine"
    link.unlink()
    assert run(words.format("link")) == 0
