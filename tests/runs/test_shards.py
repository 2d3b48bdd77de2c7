import os
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaif.errors import RunError, RunMismatch
from rlaif.runs import done_ids, read_rows, write_shard
from rlaif.runs.shards import read_batches, shard_paths
from tests.runs.made import make_row, row_bytes


def shard(folder, *numbers: int, run: str = "demo@1"):
    return write_shard(folder, [make_row(number) for number in numbers], run=run)


def test_rows_are_sorted_inside_a_shard_and_come_back_to_the_byte(tmp_path):
    some = [make_row(number) for number in range(20)]
    path = write_shard(tmp_path, some, run="demo@1")
    ids = pq.read_table(path, columns=["id"]).column("id").to_pylist()
    assert ids == sorted(row.id for row in some)
    read = {row.id: row_bytes(row) for row in read_rows(tmp_path)}
    assert read == {row.id: row_bytes(row) for row in some}


def test_a_shard_says_where_it_comes_from(tmp_path):
    marks = pq.read_schema(shard(tmp_path, 1)).metadata
    assert marks[b"rlaif.run"] == b"demo@1"
    assert marks[b"rlaif.schema"] == b"1"


def test_shards_differ_in_name_and_sort_by_time(tmp_path):
    paths = [shard(tmp_path, number) for number in range(20)]
    assert shard_paths(tmp_path) == sorted(paths) == paths


def test_a_row_written_twice_counts_once_and_the_first_stays(tmp_path):
    first, second = make_row(1), make_row(1, text="other")
    assert first.id == second.id
    write_shard(tmp_path, [first, make_row(2)], run="demo@1")
    write_shard(tmp_path, [second, make_row(3)], run="demo@1")
    assert len(done_ids(tmp_path)) == 3
    read = list(read_rows(tmp_path))
    assert len(read) == 3
    assert first in read
    assert sum(batch.num_rows for batch in read_batches(tmp_path, ["prompt.id"])) == 3


def test_done_ids_are_the_bytes_of_the_row_ids(tmp_path):
    shard(tmp_path, 1, 2)
    done = done_ids(tmp_path)
    assert [bytes.fromhex(make_row(n).id) in done for n in (1, 2, 3)] == [True, True, False]
    assert len(done) == 2


def test_a_missing_folder_has_no_rows(tmp_path):
    assert list(read_rows(tmp_path / "absent")) == []
    assert len(done_ids(tmp_path / "absent")) == 0


def test_only_the_requested_parts_are_read(tmp_path):
    shard(tmp_path, 1)
    (row,) = read_rows(tmp_path, ["pairs"])
    assert row == replace(make_row(1), responses=(), judgments=())


def test_reading_is_a_stream(tmp_path):
    for start in range(0, 3000, 1000):
        shard(tmp_path, *range(start, start + 1000))
    rows = read_rows(tmp_path)
    before = pa.total_allocated_bytes()
    next(rows)
    held = pa.total_allocated_bytes() - before
    whole = sum(pq.read_table(path).nbytes for path in shard_paths(tmp_path))
    assert held < whole / 2
    assert sum(1 for _ in rows) == 2999


@pytest.mark.parametrize("keep", [0, 3, 100, 0.5, 0.99, -1])
def test_a_truncated_shard_is_reported_with_the_fix(tmp_path, keep):
    shard(tmp_path, 1)
    path = shard(tmp_path, *range(2, 50))
    size = path.stat().st_size
    os.truncate(path, int(size * keep) if isinstance(keep, float) else keep % size)
    for read in (done_ids, lambda folder: list(read_rows(folder))):
        with pytest.raises(RunError, match=f"{path.name}: damaged shard") as caught:
            read(tmp_path)
        assert f"mv {path} {path}.damaged" in caught.value.hint


def test_setting_a_damaged_shard_aside_leaves_the_others(tmp_path):
    shard(tmp_path, 1)
    path = shard(tmp_path, 2)
    os.truncate(path, 100)
    path.rename(f"{path}.damaged")
    assert [row.prompt.id for row in read_rows(tmp_path)] == ["p1"]


def test_damage_in_the_middle_is_noticed_not_read(tmp_path):
    path = shard(tmp_path, *range(200))
    whole = path.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    good = [row_bytes(row) for row in read_rows(tmp_path)]
    noticed = 0
    for place in range(4, len(whole) - footer, 997):
        data = bytearray(whole)
        data[place] ^= 0xFF
        path.write_bytes(data)
        try:
            assert [row_bytes(row) for row in read_rows(tmp_path)] == good
        except RunError:
            noticed += 1
    assert noticed > 10


def test_a_newer_shard_is_refused(tmp_path):
    path = shard(tmp_path, 1)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"rlaif.schema": "3"}), path)
    with pytest.raises(RunMismatch, match="newer version"):
        list(read_rows(tmp_path))


def test_a_foreign_parquet_file_is_not_a_shard(tmp_path):
    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "foreign.parquet")
    with pytest.raises(RunError, match="not a shard of a run"):
        done_ids(tmp_path)


def test_a_row_without_a_readable_id_is_damage(tmp_path):
    row = replace(make_row(1), id="not hexadecimal")
    write_shard(tmp_path, [row], run="demo@1")
    with pytest.raises(RunError, match="no readable id"):
        done_ids(tmp_path)
