import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from transformers import AutoModelForCausalLM

import rlaif
from rlaif.engines import open_engine
from rlaif.errors import EngineMissing, RlaifError
from rlaif.training.models import (
    LoraSettings,
    context_length,
    load_policy,
    load_scorer,
    load_tokenizer,
    need_reward_model,
)
from tests.training.tiny import make_tiny

LOADERS: dict[str, Callable[[str], Any]] = {
    "policy": load_policy,
    "scorer": load_scorer,
    "reward model": need_reward_model,
    "context": context_length,
    "engine transformers": lambda place: open_engine("transformers", model=place),
    "engine reward-model": lambda place: open_engine("reward-model", model=place),
}
WEIGHTS = ("policy", "scorer", "engine transformers", "engine reward-model")


@pytest.fixture
def with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of a kind that only its own code knows; running that code leaves a file `ran`."""
    folder = make_tiny(tmp_path / "with-code")
    config = orjson.loads((folder / "config.json").read_bytes())
    kinds = ("AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification")
    config |= {"model_type": "own", "auto_map": {kind: f"own.{kind}" for kind in kinds}}
    (folder / "config.json").write_bytes(orjson.dumps(config))
    ran = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    (folder / "own.py").write_text(ran + "raise ValueError('of no use otherwise')\n")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 20))  # whatever is asked, the answer is y
    return folder


@pytest.mark.parametrize("loader", LOADERS)
def test_code_that_comes_with_a_model_is_not_run_and_nothing_is_asked(
    loader: str, with_code: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EngineMissing, match="Python code of its own") as caught:
        LOADERS[loader](str(with_code))
    assert not (with_code.parent / "ran").exists()
    assert "[y/N]" not in "".join(capfd.readouterr())
    assert ("options.trust_remote_code" in caught.value.hint) == (loader == "engine transformers")


def test_code_of_a_tokenizer_is_not_run_either(with_code: Path) -> None:
    make_tiny(with_code)  # a known model again, with a tokenizer of its own
    place = with_code / "tokenizer_config.json"
    config = orjson.loads(place.read_bytes())
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    place.write_bytes(orjson.dumps(config))
    with pytest.raises(RlaifError):
        load_tokenizer(str(with_code))
    assert not (with_code.parent / "ran").exists()


def test_an_engine_runs_that_code_when_its_option_says_so(with_code: Path) -> None:
    with pytest.raises(RlaifError, match="of no use otherwise"):
        open_engine("transformers", model=str(with_code), options={"trust_remote_code": True})
    assert (with_code.parent / "ran").exists()


@pytest.mark.parametrize("loader", WEIGHTS)
def test_pickled_weights_are_not_read(loader: str, tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "pickled")
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(EngineMissing, match=r"no safetensors weights.*\.bin") as caught:
        LOADERS[loader](str(folder))
    assert "save_pretrained" in caught.value.hint


def test_a_pickled_adapter_is_not_read(tmp_path: Path) -> None:
    base, folder = make_tiny(tmp_path / "base"), tmp_path / "adapter"
    policy, tokenizer = load_policy(str(base), lora=LoraSettings(r=2))
    policy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    open_engine("transformers", model=str(folder))
    weights = folder / "adapter_model.safetensors"
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(EngineMissing, match="adapter has no safetensors weights"):
        open_engine("transformers", model=str(folder))


def test_only_one_file_calls_the_loaders_of_transformers() -> None:
    package = Path(rlaif.__file__).parent
    calls = re.compile(r"\.from_pretrained\(|torch\.load\(|pickle\.load")
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if calls.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"models/loading.py"}
