from pathlib import Path

import pytest

from rlaif.errors import InputError
from rlaif.runs.folders import check_results_folder, replace_folder


def make(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


@pytest.mark.parametrize("old", [True, False])
def test_a_folder_takes_the_place_of_another(old: bool, tmp_path: Path):
    if old:
        make(tmp_path / "target", "old")
    replace_folder(make(tmp_path / "new", "new"), tmp_path / "target")
    assert (tmp_path / "target" / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_when_the_new_folder_cannot_be_moved_the_old_one_is_back(tmp_path: Path):
    target = make(tmp_path / "target", "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "missing", target)
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_results_overwrite_results_and_no_file_of_the_user(tmp_path: Path):
    check_results_folder(tmp_path / "missing", ["report.md"])
    (tmp_path / "notes.md").write_text("mine")
    check_results_folder(tmp_path, ["report.md"])
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(InputError, match=r"holds report\.md but no ledger\.sqlite"):
        check_results_folder(tmp_path, ["table.md", "report.md"])
    (tmp_path / "ledger.sqlite").write_text("")
    check_results_folder(tmp_path, ["table.md", "report.md"])
