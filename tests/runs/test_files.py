import errno
import os
from pathlib import Path

import pytest

from rlaif.errors import InputError, RunError
from rlaif.runs.files import (
    cannot_write,
    check_results_folder,
    list_whole,
    make_folder,
    open_whole,
    remove_partial,
    replace_folder,
    write_whole,
)


def test_a_file_is_replaced_whole_and_nothing_else_stays(tmp_path):
    for data in (b"old", b"new"):
        write_whole(tmp_path / "file", data)
    with open_whole(tmp_path / "file") as file:
        assert file.read() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_whole(tmp_path / "file", b"old")

    def no_room(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(RunError, match="disk is full"):
        write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_unfinished_files_are_invisible_and_removed(tmp_path):
    write_whole(tmp_path / "b.parquet", b"")
    write_whole(tmp_path / "a.parquet", b"")
    (tmp_path / "c.parquet.77.tmp").write_bytes(b"half")
    (tmp_path / "notes.tmp").write_bytes(b"a user's own")
    assert [path.name for path in list_whole(tmp_path, ".parquet")] == ["a.parquet", "b.parquet"]
    assert [path.name for path in remove_partial(tmp_path)] == ["c.parquet.77.tmp"]
    assert remove_partial(tmp_path) == []
    assert (tmp_path / "notes.tmp").exists()


def test_a_missing_folder_has_no_files(tmp_path):
    assert list_whole(tmp_path / "absent", ".parquet") == []


def test_a_file_with_the_name_of_a_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file, not a folder"):
        make_folder(tmp_path / "file")
    with pytest.raises(RunError, match="cannot be written"):
        make_folder(tmp_path / "file" / "below")
    with pytest.raises(RunError, match="cannot be read"):
        list_whole(tmp_path / "file", ".parquet")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EFBIG, "disk is full"),
        (errno.EROFS, "read-only file system"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_every_error_of_the_system_is_explained(tmp_path, number, said):
    problem = cannot_write(tmp_path / "file", OSError(number, os.strerror(number)))
    assert said in problem.message
    assert str(tmp_path) in problem.message


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
    with pytest.raises(InputError, match=r"contains report\.md but no ledger\.sqlite"):
        check_results_folder(tmp_path, ["table.md", "report.md"])
    (tmp_path / "ledger.sqlite").write_text("")
    check_results_folder(tmp_path, ["table.md", "report.md"])
