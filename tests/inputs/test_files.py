import bz2
import functools
import gzip
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from rlaif.errors import EngineMissing, EngineUnavailable, RecordError
from rlaif.inputs import PromptSource, check_source, count_records
from tests.inputs.reading import failures, read, texts, write_jsonl

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}


@pytest.mark.parametrize("ending", PACKERS)
def test_packed_files_are_read_with_the_line_numbers_of_their_content(tmp_path: Path, ending: str):
    pack = PACKERS[ending]
    path = tmp_path / f"p.jsonl{ending}"
    # In two parts, as appended files are.
    path.write_bytes(pack(b'{"prompt": "one"}\n{broken\n') + pack(b'{"prompt": "two"}\n'))
    items = read(path)
    assert texts(items) == ["one", "two"]
    assert failures(items) == [(f"p.jsonl{ending}:2", "bad-json")]


@pytest.mark.parametrize("ending", PACKERS)
def test_a_packed_file_that_is_cut_off_is_refused_before_the_first_prompt(
    tmp_path: Path, ending: str
):
    data = b"".join(b'{"prompt": "question %d"}\n' % n for n in range(50_000))
    path = tmp_path / f"p.jsonl{ending}"
    path.write_bytes(PACKERS[ending](data)[:-100])
    with pytest.raises(RecordError, match="cannot be read"):
        check_source(PromptSource(path=path))


def test_a_folder_stands_for_its_files_in_the_order_of_their_names(tmp_path: Path):
    write_jsonl(tmp_path / "b.jsonl", "three")
    write_jsonl(tmp_path / "a" / "x.jsonl", "one")
    (tmp_path / "a" / "y.csv").write_text("prompt\ntwo\n")
    (tmp_path / "README.md").write_text("no prompts")
    (tmp_path / "_SUCCESS").write_text("")
    write_jsonl(tmp_path / ".cache" / "z.jsonl", "hidden")
    assert texts(read(tmp_path)) == ["one", "two", "three"]


def test_a_pattern_stands_for_what_it_matches_and_failures_name_the_file_below(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.jsonl").write_text(f'{{"prompt": "{folder}"}}\n{{broken\n')
    items = read(f"{tmp_path}/*/p.jsonl")
    assert texts(items) == ["a", "b"]
    assert failures(items) == [("a/p.jsonl:2", "bad-json"), ("b/p.jsonl:2", "bad-json")]
    assert texts(read(f"{tmp_path}/**/*.jsonl")) == ["a", "b"]
    assert count_records(PromptSource(path=f"{tmp_path}/*/p.jsonl")) == 4


def test_an_empty_shard_among_others_is_accepted_but_only_empty_ones_are_an_error(
    tmp_path: Path,
):
    (tmp_path / "a.jsonl").write_text("")
    write_jsonl(tmp_path / "b.jsonl", "one")
    assert texts(read(tmp_path)) == ["one"]
    (tmp_path / "b.jsonl").write_text("")
    with pytest.raises(RecordError, match="its 2 files are empty"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["nothing*.jsonl", "folder", "file.txt"])
def test_a_folder_without_readable_files_is_an_error_that_lists_the_formats(
    tmp_path: Path, name: str
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(RecordError) as problem:
        read(tmp_path / name)
    assert name in str(problem.value)
    assert "jsonl" in str(problem.value)


def test_the_format_can_be_set_if_the_name_does_not_show_it(tmp_path: Path):
    (tmp_path / "p.txt").write_text('{"prompt": "one"}\n')
    assert texts(read(tmp_path / "p.txt", format="jsonl")) == ["one"]


def test_addresses_are_read_through_fsspec_files_folders_and_patterns():
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/a/p.jsonl", b'{"prompt": "one"}\n{broken\n')
    system.pipe("/bucket/b/p.jsonl.gz", gzip.compress(b'{"prompt": "two"}\n'))
    system.pipe("/bucket/b/_log/p.jsonl", b'{"prompt": "hidden"}\n')
    try:
        assert texts(read("memory://bucket/a/p.jsonl")) == ["one"]
        items = read("memory://bucket")
        assert texts(items) == ["one", "two"]
        assert failures(items) == [("a/p.jsonl:2", "bad-json")]
        assert texts(read("memory://bucket/*/*.gz")) == ["two"]
        with pytest.raises(RecordError, match=r"bucket/none\.jsonl: no such file"):
            read("memory://bucket/none.jsonl")
    finally:
        system.rm("/bucket", recursive=True)


def test_parquet_behind_an_address_is_read_by_column(tmp_path: Path):
    fsspec = pytest.importorskip("fsspec")
    table = pa.table({"prompt": ["one", "two"], "other": [1, 2]})
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    system = fsspec.filesystem("memory")
    system.pipe("/columns/p.parquet", sink.getvalue().to_pybytes())
    try:
        assert texts(read("memory://columns/p.parquet")) == ["one", "two"]
    finally:
        system.rm("/columns", recursive=True)


@contextmanager
def serve(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    with serve(functools.partial(Quiet, directory=str(tmp_path))) as address:
        yield address


def test_web_addresses_are_read_with_their_query(tmp_path: Path, server: str):
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    write_jsonl(tmp_path / "p.jsonl", "one")
    assert texts(read(f"{server}/p.jsonl?download=1")) == ["one"]
    with pytest.raises(RecordError, match=r"none.jsonl: no such file"):
        read(f"{server}/none.jsonl")


def test_a_server_that_fails_half_way_is_an_error_that_can_be_retried():
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")

    class BreaksOff(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(b'{"prompt": "one"}\n')

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with serve(BreaksOff) as address, pytest.raises(EngineUnavailable, match="cannot be read"):
        read(f"{address}/p.jsonl")


def test_a_storage_library_that_is_not_installed_is_named():
    pytest.importorskip("fsspec")
    if pytest.importorskip("importlib").util.find_spec("smbprotocol"):
        pytest.skip("smbprotocol is installed")
    with pytest.raises(EngineMissing, match="smbprotocol"):
        read("smb://host/share/p.jsonl")
