from pathlib import Path

import pyarrow.fs as pafs
import pytest

from rlaif.runs.stores import Store


class Listing:
    """A store whose names were chosen by somebody else."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def get_file_info(self, _: object) -> list[pafs.FileInfo]:
        kind = pafs.FileType.File
        return [pafs.FileInfo(f"bucket/run/{name}", type=kind, size=4) for name in self.names]


def test_no_name_in_a_store_leads_out_of_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RLAIF_CACHE", str(tmp_path / "cache"))
    store = Store(f"file:///{tmp_path}/run")
    names = ("shards/../../../../precious", "../precious", "shards/a..b.parquet")
    monkeypatch.setattr(store, "_files", Listing(*names))
    monkeypatch.setattr(store, "_root", "bucket/run")
    monkeypatch.setattr(store, "_read", lambda _: b"data")
    store.fetch()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written == [store.copy / "shards" / "a..b.parquet"]
