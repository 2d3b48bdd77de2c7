import errno
import os

import pytest

from rlaif.errors import RunError
from rlaif.runs.files import (
    cannot_write,
    list_whole,
    make_folder,
    open_whole,
    remove_partial,
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


def test_a_missing_folder_holds_nothing(tmp_path):
    assert list_whole(tmp_path / "absent", ".parquet") == []


def test_a_file_in_the_way_of_a_folder_is_one_clear_line(tmp_path):
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
def test_every_trouble_is_said_in_words(tmp_path, number, said):
    problem = cannot_write(tmp_path / "file", OSError(number, os.strerror(number)))
    assert said in problem.message
    assert str(tmp_path) in problem.message
