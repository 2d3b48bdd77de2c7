import os
import shutil
import time
from pathlib import Path

import orjson
import pytest

from rlaif.errors import InputError
from rlaif.models import cache_folder, model_fingerprint


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("RLAIF_CACHE", str(folder))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(100_000))
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    age(folder)
    return folder


def age(folder: Path) -> None:
    for file in folder.iterdir():
        os.utime(file, ns=(0, time.time_ns() - 3600 * 10**9))


def test_a_copy_elsewhere_has_the_same_fingerprint(model: Path, tmp_path: Path):
    copy = shutil.copytree(model, tmp_path / "copy")
    assert model_fingerprint(copy) == model_fingerprint(model)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_one_changed_byte_in_the_same_folder_is_another_model(model: Path, file: str):
    before = model_fingerprint(model)
    content = bytearray((model / file).read_bytes())
    content[len(content) // 2] ^= 1
    (model / file).write_bytes(content)
    assert model_fingerprint(model) != before


def test_a_file_rewritten_at_once_is_seen_even_if_its_time_stays(model: Path):
    weights = model / "model.safetensors"
    now = time.time_ns() + 3600 * 10**9  # never old enough to be relied on
    weights.write_bytes(b"a" * 50)
    os.utime(weights, ns=(now, now))
    before = model_fingerprint(model)
    weights.write_bytes(b"b" * 50)
    os.utime(weights, ns=(now, now))
    assert model_fingerprint(model) != before


def test_what_cannot_change_an_answer_does_not_count(model: Path):
    before = model_fingerprint(model)
    (model / "trainer_state.json").write_text('{"step": 3}')
    (model / "README.md").write_text("trained again")
    (model / "optimizer.pt").write_bytes(b"x")
    assert model_fingerprint(model) == before


def test_a_second_look_reads_nothing(model: Path, monkeypatch: pytest.MonkeyPatch):
    before = model_fingerprint(model)

    def refuse(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("hashlib.file_digest", refuse)
    assert model_fingerprint(model) == before


def test_a_damaged_memory_is_ignored(model: Path, cache: Path):
    before = model_fingerprint(model)
    (record,) = (cache / "digests").iterdir()
    record.write_bytes(b"[")
    assert model_fingerprint(model) == before


def test_a_cache_that_cannot_be_written_costs_only_time(model: Path, cache: Path):
    cache.write_text("not a folder")
    assert model_fingerprint(model) == model_fingerprint(model)


def test_an_adapter_covers_the_model_it_belongs_to(model: Path, tmp_path: Path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"small")
    config = {"base_model_name_or_path": str(model)}
    (adapter / "adapter_config.json").write_bytes(orjson.dumps(config))
    before = model_fingerprint(adapter)
    (model / "model.safetensors").write_bytes(bytes(99_999) + b"1")
    assert model_fingerprint(adapter) != before


def test_pickled_weights_are_no_weights(model: Path):
    before = model_fingerprint(model)
    (model / "pytorch_model.bin").write_bytes(b"beside")
    assert model_fingerprint(model) == before
    (model / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no model weights.*\n.*\.bin"):
        model_fingerprint(model)


def test_a_folder_without_weights_is_no_model(tmp_path: Path):
    with pytest.raises(InputError, match="no model weights"):
        model_fingerprint(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        model_fingerprint(tmp_path / "nowhere")


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("RLAIF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "rlaif"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "rlaif"
