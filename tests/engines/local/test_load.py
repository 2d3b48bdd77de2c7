import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import torch

from rlaif.engines import Generate, Sampling, open_engine
from rlaif.engines.local.chat import Chat
from rlaif.engines.local.load import TransformersOptions, load_model
from rlaif.errors import ConfigError, EngineMissing
from tests.engines.local.brute import Brute, user
from tests.engines.local.conftest import Opener
from tests.engines.tiny import load_plain


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smollm2-135m-instuct", "did you mean 'smollm2-135m-instruct'"),
        ("nobody/no-such-model", "model 'nobody/no-such-model' not found"),
    ],
)
def test_an_unknown_model_is_one_line(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EngineMissing, match=message) as missing:
        open_engine("transformers", model=name)
    assert "\n" not in missing.value.message


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match=str(tmp_path)):
        open_engine("transformers", model=str(tmp_path))


def test_a_model_without_a_chat_template_says_how_to_give_one(
    tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    bare = shutil.copytree(tiny_models("llama"), tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(EngineMissing, match="chat_template"):
        open_engine("transformers", model=str(bare))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devise": "cpu"}, "did you mean 'device'"),
        ({"device": "tpu"}, "options.device"),
        ({"dtype": "int8"}, "options.dtype"),
        ({"max_batch": 0}, "options.max_batch"),
        ({"chat_template": "nowhere.jinja"}, "nowhere.jinja"),
    ],
    ids=str,
)
def test_wrong_options_are_one_clear_line(
    tiny_models: Callable[[str], Path], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        open_engine("transformers", model=str(tiny_models("llama")), options=options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tiny_models: Callable[[str], Path]) -> None:
    with pytest.raises(EngineMissing, match="no GPU"):
        open_engine("transformers", model=str(tiny_models("llama")), options={"device": "cuda"})


async def test_the_identity_knows_weights_dtype_and_template_and_nothing_of_the_place(
    open_tiny: Opener, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    async with open_tiny() as engine:
        identity = dict(engine.identity)
    assert orjson.loads(orjson.dumps(identity)) == identity
    assert str(tiny_models("llama")) not in str(identity)
    async with open_tiny(max_batch=2, threads=2, max_wait_ms=0) as engine:
        assert engine.identity == identity
    async with open_tiny(dtype="bfloat16") as engine:
        assert engine.identity != identity
    template = tmp_path / "other.jinja"
    template.write_text("{{ messages[0].content }}")
    async with open_tiny(chat_template=str(template)) as engine:
        assert engine.identity != identity
    async with open_tiny("sliding") as engine:
        assert engine.identity != identity


def test_a_reply_ends_at_every_token_that_a_model_ends_its_turns_with(
    tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_models("llama"), tmp_path / "two-ends")
    _, tokenizer = load_plain(folder)
    generation = folder / "generation_config.json"
    settings = orjson.loads(generation.read_bytes())
    settings["eos_token_id"] = [tokenizer.convert_tokens_to_ids("<|endoftext|>")]
    generation.write_bytes(orjson.dumps(settings))
    config = folder / "tokenizer_config.json"
    named = orjson.loads(config.read_bytes())
    named["eos_token"] = "<|im_start|>"  # so <|im_end|> is known from the chat template alone
    config.write_bytes(orjson.dumps(named))
    loaded = load_model(str(folder), revision=None, options=TransformersOptions())
    ends = {tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("endoftext", "im_start")}
    ends.add(tokenizer.convert_tokens_to_ids("<|im_end|>"))
    assert loaded.ends == ends


def test_a_template_that_takes_no_assistant_turn_leaves_the_end_of_sequence(
    tiny_models: Callable[[str], Path],
) -> None:
    _, tokenizer = load_plain(tiny_models("llama"))
    tokenizer.chat_template = "{{ messages[1].nothing.there }}"
    assert Chat(tokenizer).turn_ends() == {tokenizer.eos_token_id}


@pytest.mark.filterwarnings(
    # peft asks transformers under the old name, when an adapter is made (not when it is loaded)
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
async def test_a_low_rank_adapter_is_a_model_of_its_own(
    tiny_models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peft = pytest.importorskip("peft")
    monkeypatch.setenv("RLAIF_CACHE", str(tmp_path / "cache"))
    base = tiny_models("llama")
    model, tokenizer = load_plain(base)
    torch.manual_seed(1)
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, settings)
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    brute = Brute(base)
    brute.model = adapted
    prompt = user("How do I boil an egg?")
    expected = brute.write(brute.prompt_ids(prompt), 10, lambda row, _: int(row.argmax()))
    request = Generate(prompt, Sampling(temperature=0.0, max_tokens=10), (0,))
    texts, identities = [], []
    for folder in (tmp_path / "adapter", base):
        engine = open_engine("transformers", model=str(folder), options={"threads": 1})
        texts.append((await engine.ask(request))[0].text)
        identities.append(engine.identity)
        await engine.aclose()
    assert texts[0] == expected
    assert identities[0] != identities[1]
