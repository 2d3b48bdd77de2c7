"""Runs in an object store, on a real S3 server of this machine: both executors, other machines."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

import rlaif
from rlaif.auditing.relabel.relabel import reparse
from rlaif.errors import InputError, RunError
from rlaif.runs import open_run
from rlaif.runs.stores import Store, local_copy, url_of
from tests.e2e.project import row_bytes, write_project

moto = pytest.importorskip("moto.server", reason="moto is not installed")

URL = "s3://bucket/runs/demo"
STUDENT = {"engine": "scripted", "model": "echo", "sampling": {"n": 2}}
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket, and a machine that has seen none of it."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "RLAIF_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    files = pafs.S3FileSystem(
        endpoint_override=server.removeprefix("http://"),
        scheme="http",
        allow_bucket_creation=True,
        allow_bucket_deletion=True,
    )
    files.create_dir("bucket")
    yield files
    files.delete_dir("bucket")


def another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_CACHE", str(tmp_path / f"cache-{len(list(tmp_path.iterdir()))}"))


def names(files: Any) -> set[str]:
    found = files.get_file_info(pafs.FileSelector("bucket", recursive=True))
    return {one.path.removeprefix("bucket/runs/demo/") for one in found if one.is_file}


def test_a_url_is_told_from_a_path_also_when_it_has_lost_a_slash():
    assert url_of("s3://bucket/run/") == url_of(Path("s3://bucket/run")) == "s3://bucket/run"
    assert url_of("runs/demo") is url_of("/runs/demo") is url_of("c:/run") is None


def test_a_run_in_a_store_is_the_run_of_a_folder(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
):
    student = {"engine": "scripted", "model": "echo", "options": {"failure_rate": 0.2}}
    config = write_project(tmp_path, student=student)
    here = rlaif.generate(config)
    there = rlaif.generate(config, overrides={"out": URL})
    assert row_bytes(there.path) == row_bytes(here.path)
    kinds = {name.partition("/")[0] for name in names(bucket)}
    assert kinds == {"failures.jsonl", "log.jsonl", "manifest.json", "replies", "shards"}

    another_machine(tmp_path, monkeypatch)
    read = open_run(URL)
    assert row_bytes(read.path) == row_bytes(here.path)
    one, other = here.status(), read.status()
    assert (other.state, other.rows, other.failed) == ("finished", one.rows, one.failed)
    assert other.calls == one.calls
    exported = rlaif.export(URL, tmp_path / "exported")
    assert exported.records == one.pairs
    assert reparse(URL, out=tmp_path / "reparsed").asked == 0
    seen: list[int] = []
    rlaif.generate(config, overrides={"out": URL}, on_progress=lambda p: seen.append(p.asked))
    assert set(seen) == {0}
    reusing = rlaif.generate(config, overrides={"out": str(tmp_path / "new"), "reuse": [URL]})
    assert sum(total.calls for total in reusing.status().calls) == 0


def test_another_machine_goes_on_where_one_stopped(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
):
    config = write_project(tmp_path, prompts=30)
    whole = rlaif.generate(config)
    rlaif.generate(config, overrides={"out": URL, "prompts.limit": 10})
    # Rows that did not reach the store, but whose replies did, cost nothing again.
    for name in names(bucket):
        if name.startswith("shards/"):
            bucket.delete_file(f"bucket/runs/demo/{name}")
    another_machine(tmp_path, monkeypatch)
    run = rlaif.generate(config, overrides={"out": URL})
    assert row_bytes(run.path) == row_bytes(whole.path)
    assert run.status().calls == whole.status().calls


def test_what_a_crash_kept_from_the_store_is_uploaded_by_the_next_start(
    tmp_path: Path, bucket: Any
):
    config = write_project(tmp_path, prompts=10)
    rlaif.generate(config, overrides={"out": URL})
    before = names(bucket)
    for name in before - {"manifest.json"}:
        bucket.delete_file(f"bucket/runs/demo/{name}")
    run = rlaif.generate(config, overrides={"out": URL})
    assert names(bucket) == before
    assert len(row_bytes(run.path)) == 10


def test_the_copy_of_a_run_that_was_deleted_in_the_store_is_forgotten(tmp_path: Path, bucket: Any):
    config = write_project(tmp_path, prompts=5)
    rlaif.generate(config, overrides={"out": URL})
    bucket.delete_dir("bucket/runs/demo")
    with pytest.raises(InputError, match="run not found"):
        open_run(URL)
    rlaif.generate(config, overrides={"out": URL, "prompts.limit": 2})
    assert open_run(URL).status().rows == 2


def test_a_bucket_that_is_not_there_is_named_before_anything_is_asked(tmp_path: Path, bucket: Any):
    config = write_project(tmp_path, prompts=5)
    with pytest.raises(RunError, match=r"s3://nowhere/run") as caught:
        rlaif.generate(config, overrides={"out": "s3://nowhere/run"})
    assert "credentials" in caught.value.hint


def test_a_half_uploaded_file_is_fetched_again(tmp_path: Path, bucket: Any):
    config = write_project(tmp_path, prompts=5)
    run = rlaif.generate(config, overrides={"out": URL})
    rows = row_bytes(run.path)
    shard = next((run.path / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:100])
    assert row_bytes(open_run(URL).path) == rows


def test_a_scheme_that_only_fsspec_knows_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RLAIF_CACHE", str(tmp_path / "cache"))
    config = write_project(tmp_path, prompts=5)
    run = rlaif.generate(config, overrides={"out": "memory://bucket/run"})
    shutil.rmtree(Store("memory://bucket/run").copy)
    assert len(row_bytes(local_copy("memory://bucket/run"))) == 5 == run.status().rows
    with pytest.raises(InputError, match="needs a library"):
        open_run("nonsense://bucket/run")


def test_a_file_url_is_a_folder_of_this_machine(tmp_path: Path):
    config = write_project(tmp_path, prompts=5)
    run = rlaif.generate(config, overrides={"out": f"file://{tmp_path}/here"})
    assert run.path == tmp_path / "here"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings(r"ignore:`\w+` is deprecated")
def test_workers_of_ray_write_their_replies_to_the_store(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("ray", reason="Ray is not installed")
    changes = {"ray": {"workers": 1, "portion": 4, "cpus": 0.5}, "student": STUDENT}
    config = write_project(tmp_path, prompts=24, **changes)
    whole = rlaif.generate(config)
    # Ray starts here, once, with this test's environment: as one without a cluster would have it.
    run = rlaif.generate(config, overrides={"out": URL, "prompts.limit": 12}, executor="ray")
    assert len(row_bytes(run.path)) == 12
    assert not any(name.startswith("staged/") for name in names(bucket))
    another_machine(tmp_path, monkeypatch)
    run = rlaif.generate(config, overrides={"out": URL})
    assert row_bytes(run.path) == row_bytes(whole.path)
    assert sorted(map(str, run.status().calls)) == sorted(map(str, whole.status().calls))
    reusing = {"out": "s3://bucket/runs/new", "reuse": [str(whole.path)]}
    new = rlaif.generate(config, overrides=reusing, executor="ray")
    assert row_bytes(new.path) == row_bytes(whole.path)
    assert sum(total.calls for total in new.status().calls) == 0
