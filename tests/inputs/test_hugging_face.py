import importlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaif.errors import EngineMissing, EngineUnavailable, RecordError
from rlaif.inputs import PromptSource, check_source, read_prompts
from tests.inputs.reading import failures, read, texts


@pytest.fixture
def datasets() -> Any:
    module = pytest.importorskip("datasets", reason="datasets is not installed")
    module.disable_progress_bars()
    return module


def records(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"question {n}", "id": f"q{n}", "tags": ["t"]} for n in range(count)]


def test_a_saved_data_set_is_read_in_its_order_from_all_shards(tmp_path: Path, datasets: Any):
    datasets.Dataset.from_list(records(50)).save_to_disk(tmp_path / "saved", num_shards=3)
    items = read(tmp_path / "saved", id_column="id", tags_column="tags")
    assert [item.id for item in items] == [f"q{n}" for n in range(50)]  # type: ignore[union-attr]
    assert items[0].tags == ("t",)  # type: ignore[union-attr]
    assert items[-1].source.startswith("data-00002-of-00003.arrow#")  # type: ignore[union-attr]


def test_a_saved_data_set_needs_no_datasets_library_to_be_read(
    tmp_path: Path, datasets: Any, monkeypatch: pytest.MonkeyPatch
):
    datasets.Dataset.from_list(records(3)).save_to_disk(tmp_path / "saved")

    def refuse(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    assert len(texts(read(tmp_path / "saved"))) == 3


def test_the_split_of_a_saved_data_set_is_chosen_and_a_missing_one_is_an_error(
    tmp_path: Path, datasets: Any
):
    whole = datasets.Dataset.from_list(records(10))
    both = datasets.DatasetDict({"train": whole, "test": whole.select(range(2))})
    both.save_to_disk(tmp_path / "saved")
    assert len(read(tmp_path / "saved")) == 10
    assert len(read(tmp_path / "saved", split="test")) == 2
    with pytest.raises(RecordError, match="split 'tset' not found; did you mean 'test'"):
        read(tmp_path / "saved", split="tset")


def test_a_saved_data_set_with_a_missing_shard_is_refused(tmp_path: Path, datasets: Any):
    datasets.Dataset.from_list(records(10)).save_to_disk(tmp_path / "saved", num_shards=2)
    (tmp_path / "saved" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(RecordError, match=r"data-00001-of-00002\.arrow: no such file"):
        check_source(PromptSource(path=tmp_path / "saved"))


@pytest.mark.parametrize("streaming", [True, False])
def test_the_datasets_library_reads_a_folder_of_parquet_by_configuration_and_split(
    tmp_path: Path, datasets: Any, monkeypatch: pytest.MonkeyPatch, streaming: bool
):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name, count in (("easy", 5), ("hard", 7)):
        (tmp_path / "set" / name).mkdir(parents=True)
        pq.write_table(
            pa.Table.from_pylist(records(count)), tmp_path / "set" / name / "train.parquet"
        )
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: easy\n  data_files: easy/*.parquet\n"
        "- config_name: hard\n  data_files: hard/*.parquet\n---\n"
    )
    found = read(hub=str(tmp_path / "set"), config="hard", streaming=streaming)
    assert len(texts(found)) == 7
    with pytest.raises(RecordError, match=r"\(hard, split tset\): cannot be read"):
        read(hub=str(tmp_path / "set"), config="hard", split="tset", streaming=streaming)
    with pytest.raises(RecordError, match="cannot be read"):
        read(hub=str(tmp_path / "set"), config="none", streaming=streaming)


def test_a_stream_that_fails_half_way_can_be_resumed(monkeypatch: pytest.MonkeyPatch):
    def breaking() -> Iterator[dict[str, str]]:
        yield from records(3)
        raise ConnectionError("reset by peer\nwith details")

    library = SimpleNamespace(load_dataset=lambda *_, **__: breaking())
    monkeypatch.setattr(importlib, "import_module", lambda _: library)
    found = read_prompts(PromptSource(hub="owner/name"))
    assert len(texts(islice(found, 3))) == 3
    with pytest.raises(EngineUnavailable, match="after record 3: reset by peer\n"):
        next(found)


def test_without_the_datasets_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    def refuse(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(EngineMissing, match=r"constitutional-rlaif\[inputs\]"):
        read(hub="owner/name")


def test_conversations_in_both_usual_shapes_are_the_same_prompt(tmp_path: Path):
    (tmp_path / "p.jsonl").write_text(
        '{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}\n'
        '{"prompt": [{"from": "system", "value": "s"}, {"from": "human", "value": "u"}]}\n'
        '{"prompt": [{"from": "human", "value": "v"}, {"from": "gpt", "value": "w"}]}\n'
    )
    items = read(tmp_path / "p.jsonl")
    assert texts(items) == ["u"]
    assert failures(items) == [("p.jsonl:2", "duplicate-id"), ("p.jsonl:3", "bad-prompt")]
    assert texts(read(tmp_path / "p.jsonl", drop_last_reply=True)) == ["u", "v"]


def test_dots_lead_into_nested_columns_and_a_column_named_with_dots_comes_first(tmp_path: Path):
    (tmp_path / "p.jsonl").write_text(
        '{"a": {"turns": ["one", "two"], "id": 7}, "t": {"l": ["x"]}}\n'
        '{"a.turns.0": "dotted", "a": {"turns": ["one"], "id": 8}}\n'
        '{"a": {"turns": []}}\n'
    )
    items = read(tmp_path / "p.jsonl", column="a.turns.0", id_column="a.id", tags_column="t.l")
    assert texts(items) == ["one", "dotted"]
    assert [(item.id, item.tags) for item in items[:2]] == [("7", ("x",)), ("8", ())]  # type: ignore[union-attr]
    assert failures(items) == [("p.jsonl:3", "missing-column")]
