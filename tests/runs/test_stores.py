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


def test_a_list_of_orphans_is_fetched_anew_and_uploaded_where_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def machine(name: str) -> Store:
        monkeypatch.setenv("RLAIF_CACHE", str(tmp_path / name))
        return Store(f"file://{tmp_path}/run")

    one, two = machine("one"), machine("two")
    one.copy.mkdir(parents=True)
    for name in ("manifest.json", "orphans.ids"):
        (one.copy / name).write_text("{}")
    one.upload(one.copy / "manifest.json")
    one.upload_missing()
    assert (two.fetch() / "orphans.ids").read_text() == "{}"
    (one.copy / "orphans.ids").write_text("[]")
    one.upload(one.copy / "orphans.ids")
    assert (two.fetch() / "orphans.ids").read_text() == "[]"
