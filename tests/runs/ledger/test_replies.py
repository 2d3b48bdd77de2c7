import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from rlaif.errors import RunError, RunMismatch
from rlaif.runs import Entry, Ledger
from rlaif.runs.ledger import replies as module
from rlaif.runs.ledger.entry import to_call
from rlaif.runs.ledger.replies import ReplyShards, write_replies


def entry(number: int, text: str = "", *, purpose: str = "sample") -> Entry:
    return Entry(
        key=f"{number:032x}",
        purpose=purpose,
        engine="student",
        reply={"text": text or f"reply {number}"},
        prompt_tokens=3,
        completion_tokens=2,
        price=None if number % 2 else 0.5,
        created=1.0,
    )


def write(folder: Path, *entries: Entry, writer: str = "w") -> Path:
    folder.mkdir(exist_ok=True)
    return write_replies(folder, [to_call(one) for one in entries], writer=writer)


@given(
    shards=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=30), max_size=6),
    few=st.integers(0, 10),
)
@settings(max_examples=40, deadline=None)
def test_the_first_reply_to_a_key_is_found_and_every_one_is_counted(
    shards: list[list[int]], few: int
):
    first: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_RECENT", few)  # merged into the sorted array sooner or later
        patch.setattr(module, "_GROUP_ROWS", 7)
        folder = Path(name)
        for number, keys in enumerate(shards):
            for key in keys:
                first.setdefault(key, f"in shard {number}")
            write(folder, *(entry(key, f"in shard {number}") for key in keys))
        found = ReplyShards(folder)
        assert len(found) == len(first)
        for key in range(42):
            call = found.find(key.to_bytes(16))
            assert (call is None) == (key not in first)
        assert {call.key: call for call in found.calls()} == {
            key.to_bytes(16): to_call(entry(key, text)) for key, text in first.items()
        }
        joined = found.keys()
        assert {joined[i : i + 16] for i in range(0, len(joined), 16)} == {
            key.to_bytes(16) for key in first
        }
        assert sum(sums.calls for sums in found.accounts.values()) == sum(map(len, shards))


def test_a_ledger_reads_shards_beside_its_file_as_its_own(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.put(entry(1))
    write(tmp_path / "replies", entry(1, "later"), entry(2))
    with Ledger.open(path, read_only=True) as ledger:
        assert [one.reply["text"] for one in ledger.entries()] == ["reply 1", "reply 2"]
        found, ours = ledger.look_up(entry(2).key)
        assert found == entry(2)
        assert ours
        (total,) = ledger.totals()
        # Key 1 was asked and paid twice; of the three calls one has a price.
        assert (total.calls, total.prompt_tokens, total.price, total.unpriced) == (3, 9, 0.5, 2)
        write(tmp_path / "replies", entry(4))
        assert ledger.totals()[0].calls == 4


def test_a_run_without_a_ledger_file_is_read_and_reused(tmp_path: Path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    write(old / "replies", entry(7))
    with Ledger.open(new / "ledger.sqlite", reuse=[old]) as ledger:
        copied = ledger.get(entry(7).key)
        assert copied is not None
        assert copied.reused
        assert ledger.totals()[0].reused == 1


def test_entries_of_a_sharded_ledger_are_found_at_once_and_after_a_restart(tmp_path: Path):
    folder = tmp_path / "replies"
    with Ledger.open_sharded(folder, writer="a", only_own=True) as ledger:
        ledger.put(entry(1))
        assert ledger.get(entry(1).key) == entry(1)
        ledger.flush()
        assert ledger.get(entry(1).key) == entry(1)
        ledger.put(entry(2))
        assert ledger.totals()[0].calls == 2
    with Ledger.open_sharded(folder, writer="a", only_own=True) as again:
        assert again.get(entry(2).key) == entry(2)
        assert again.totals()[0].calls == 2
    with Ledger.open_sharded(folder, writer="b", only_own=True) as other:
        assert other.get(entry(2).key) is None
        other.put(entry(2, "by another"))
    with Ledger.open_sharded(folder, writer="c") as everyone:
        assert everyone.get(entry(2).key) == entry(2)


def test_a_damaged_shard_is_reported_with_the_fix(tmp_path: Path):
    (tmp_path / "my run").mkdir()
    path = write(tmp_path / "my run" / "replies", entry(1))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RunError, match=r"damaged reply shard") as caught:
        ReplyShards(path.parent)
    assert f"mv '{path}' '{path}.damaged' and" in caught.value.hint


def test_a_shard_of_a_newer_version_is_refused(tmp_path: Path):
    path = write(tmp_path / "replies", entry(1))
    table = pq.read_table(path).replace_schema_metadata({module.NUMBER_KEY: "99"})
    pq.write_table(table, path)
    with pytest.raises(RunMismatch, match="newer version"):
        ReplyShards(tmp_path / "replies")
