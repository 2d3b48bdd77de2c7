from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlaif.errors import EngineMissing, InputError
from rlaif.models import convert_gguf
from rlaif.models.convert import need_libraries
from tests.models.tiny_gguf import CHAT_TEMPLATE, write_tiny_gguf


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "tiny.gguf")


def test_a_converted_model_has_the_files_weights_in_float32(source: Path, tmp_path: Path):
    out = convert_gguf(source, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(out)
    tensors = {tensor.name: tensor.data for tensor in GGUFReader(source).tensors}
    state = model.state_dict()
    for ours, theirs in {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "model.layers.1.mlp.down_proj.weight": "blk.1.ffn_down.weight",
        "model.layers.0.self_attn.v_proj.weight": "blk.0.attn_v.weight",
    }.items():
        assert state[ours].dtype == torch.float32
        assert torch.equal(state[ours], torch.tensor(tensors[theirs]))


def test_a_converted_model_can_be_trained_and_saved_again(source: Path, tmp_path: Path):
    model = AutoModelForCausalLM.from_pretrained(convert_gguf(source, tmp_path / "out"))
    assert not getattr(model, "is_quantized", False)
    ids = torch.tensor([[5, 6, 7]])
    model(ids, labels=ids).loss.backward()
    assert model.model.embed_tokens.weight.grad.abs().sum() > 0
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert torch.equal(model(ids).logits, again(ids).logits)


def test_tokenizer_template_and_end_tokens_are_converted(source: Path, tmp_path: Path):
    out = convert_gguf(source, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.model_max_length == 64
    assert tokenizer.decode(tokenizer("the th", add_special_tokens=False).input_ids) == "the th"
    assert AutoModelForCausalLM.from_pretrained(out).generation_config.eos_token_id == 2


def test_converting_shows_no_progress_bars(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    convert_gguf(source, tmp_path / "out")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["missing", "not GGUF", "truncated", "unknown architecture"])
def test_a_file_that_cannot_be_converted_leaves_nothing_behind(kind: str, tmp_path: Path):
    source, out = tmp_path / "tiny.gguf", tmp_path / "out"
    match kind:
        case "not GGUF":
            source.write_bytes(b"hello")
        case "truncated":
            source.write_bytes(write_tiny_gguf(source).read_bytes()[:5000])
        case "unknown architecture":
            write_tiny_gguf(source, architecture="gptj")
        case _:
            assert kind == "missing"
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"tiny\.gguf") as problem:
        convert_gguf(source, out)
    assert "\n" not in problem.value.message
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_with_something_in_it_is_not_overwritten(source: Path, tmp_path: Path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="taken"):
        convert_gguf(source, taken)
    assert [file.name for file in taken.iterdir()] == ["precious.txt"]


def test_for_a_missing_library_the_error_gives_the_install_command(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("rlaif.models.convert._NEEDED", ("orjson", "no_such_library"))
    with pytest.raises(EngineMissing, match=r"no_such_library: not installed") as problem:
        need_libraries(Path("x.gguf"))
    assert problem.value.hint == "pip install 'constitutional-rlaif[local]'"
