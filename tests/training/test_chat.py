from typing import Any

import pytest

from rlaif.errors import InputError
from rlaif.training.data.chat import end_tokens, set_chat_template, set_pad_token
from tests.training.tiny import TEMPLATE, make_tokenizer, user


def test_a_tokenizer_without_a_template_is_refused_with_the_way_out():
    with pytest.raises(InputError, match="no chat template") as caught:
        set_chat_template(make_tokenizer(template=False), None)
    assert "chatml" in caught.value.hint


def test_a_tokenizers_own_template_is_kept():
    tokenizer = make_tokenizer()
    before = tokenizer.chat_template
    set_chat_template(tokenizer, None)
    assert tokenizer.chat_template == before


def test_the_built_in_template_ends_every_turn_with_the_end_token():
    tokenizer = make_tokenizer(template=False)
    set_chat_template(tokenizer, "chatml")
    turns = [*user("say red"), {"role": "assistant", "content": "red"}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    expected = "<|im_start|>user\nsay red</s>\n<|im_start|>assistant\nred</s>\n"
    assert rendered == expected


def test_the_built_in_template_continues_its_own_generation_prompt():
    tokenizer = make_tokenizer(template=False)
    set_chat_template(tokenizer, "chatml")
    opened = tokenizer.apply_chat_template(user("x"), tokenize=False, add_generation_prompt=True)
    turns = [*user("x"), {"role": "assistant", "content": "y"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False).startswith(opened)


def test_the_built_in_template_writes_the_start_token_where_the_tokenizer_would():
    tokenizer = starting(make_tokenizer(template=False))
    set_chat_template(tokenizer, "chatml")
    assert tokenizer.apply_chat_template(user("x"), tokenize=False).startswith("<s><|im_start|>")


def test_a_template_may_come_from_a_file(tmp_path):
    path = tmp_path / "own.jinja"
    path.write_text("{{ messages[0]['content'] }}", encoding="utf-8")
    tokenizer = make_tokenizer(template=False)
    set_chat_template(tokenizer, str(path))
    assert tokenizer.apply_chat_template(user("hi"), tokenize=False) == "hi"


def test_an_unknown_template_is_refused():
    with pytest.raises(InputError, match="not a built-in name or a file"):
        set_chat_template(make_tokenizer(), "chatlm")


@pytest.mark.parametrize("own", [True, False])
def test_none_is_bare_text_in_place_of_any_template_and_is_saved(own: bool, tmp_path):
    from transformers import AutoTokenizer

    set_chat_template(tokenizer := make_tokenizer(template=own), "none")
    tokenizer.save_pretrained(tmp_path)
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path)
    turns = [*user("say red"), {"role": "assistant", "content": "red"}]
    assert loaded.apply_chat_template(turns, tokenize=False) == "say redred</s>"
    opened = loaded.apply_chat_template(user("say "), tokenize=False, add_generation_prompt=True)
    assert opened == "say "
    ended = [*user("a"), {"role": "assistant", "content": "b</s>"}]
    assert loaded.apply_chat_template(ended, tokenize=False) == "ab</s>"


def test_bare_text_starts_with_one_start_token_where_the_tokenizer_adds_it():
    tokenizer = starting(make_tokenizer(template=False))
    set_chat_template(tokenizer, "none")
    for text in ("say red", "<s>say red"):
        ids = tokenizer.apply_chat_template(user(text), add_generation_prompt=True)["input_ids"]
        assert ids == tokenizer("say red").input_ids


def starting(tokenizer: Any) -> Any:
    from tokenizers.processors import TemplateProcessing

    start = [("<s>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=start
    )
    return tokenizer


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + ' ' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{% endif %}"
)
CALLING = (
    "{% if tools %}{{ tools[0].function.name }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + ' ' + m['content'] }}"
    "{% for c in m.tool_calls or [] %}{{ '<tool> ' + c.function.name + ' </tool>' }}{% endfor %}"
    "{{ '<|eom|>' if m.tool_calls else '<|im_end|>\n' }}{% endfor %}"
)


def with_tokens(template: str, *, special: bool = True) -> Any:
    """A tokenizer whose end of sequence is </s>, and whose turns end with a token of their own."""
    tokenizer = make_tokenizer(template=False)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", "<|eom|>"], special_tokens=special)
    tokenizer.add_tokens(["<tool>", "</tool>"])
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("template", "special", "ends"),
    [
        (CHATML, True, ["<|im_end|>"]),
        (CHATML, False, ["<|im_end|>"]),
        (CALLING, True, ["<|im_end|>", "<|eom|>"]),
        (TEMPLATE, True, ["</s>"]),
        (CHATML + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}", True,
         ["<|im_end|>"]),
        ("{% for m in messages %}{{ m['content'] + '\n### End\n' }}{% endfor %}{{ eos_token }}",
         True, ["</s>"]),
    ],
)  # fmt: skip
def test_the_end_of_a_turn_is_what_the_template_puts_there(
    template: str, special: bool, ends: list[str]
):
    tokenizer = with_tokens(template, special=special)
    found = tokenizer.convert_ids_to_tokens(list(end_tokens(tokenizer)))
    assert found == ends


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n\n' }}{% endfor %}",
        "{% for m in messages %}{{ m['content'] }}{% endfor %}",
        "{% for m in messages %}{% if not loop.first and m['role'] == 'user' %}{{ eos_token }}"
        "{% endif %}{{ ' ' + m['content'] }}{% endfor %}",
        CHATML.replace("<|im_end|>", "<|no_such_token|>"),
    ],
)
def test_a_template_that_ends_no_turn_is_refused_with_the_way_out(template: str):
    with pytest.raises(InputError, match="nothing would teach the policy to stop") as caught:
        end_tokens(with_tokens(template))
    assert "chatml" in caught.value.hint


@pytest.mark.parametrize("name", ["chatml", "none"])
def test_what_is_built_in_ends_with_the_end_of_sequence(name: str):
    set_chat_template(tokenizer := make_tokenizer(template=False), name)
    assert end_tokens(tokenizer) == (tokenizer.eos_token_id,)


def test_a_pad_token_beyond_the_embeddings_is_replaced():
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<fill>"})
    assert not set_pad_token(tokenizer, below=len(tokenizer) - 1)
    assert tokenizer.pad_token == "<pad>"
    tokenizer.pad_token = "<fill>"
    assert not set_pad_token(tokenizer, below=len(tokenizer))
    assert tokenizer.pad_token == "<fill>"


def test_a_pad_token_of_its_own_is_kept():
    tokenizer = make_tokenizer()
    assert not set_pad_token(tokenizer)
    assert tokenizer.pad_token == "<pad>"


def test_padding_moves_away_from_the_end_token_where_the_vocabulary_allows_it():
    tokenizer = make_tokenizer(pad_is_eos=True)
    assert not set_pad_token(tokenizer)
    assert tokenizer.pad_token == "<unk>"


def test_a_scorer_gets_a_pad_token_added_when_nothing_can_serve():
    tokenizer = make_tokenizer(pad_is_eos=True)
    tokenizer.unk_token = None
    size = len(tokenizer)
    assert set_pad_token(tokenizer, add=True)
    assert (tokenizer.pad_token, len(tokenizer)) == ("<|pad|>", size + 1)


def test_a_policy_falls_back_to_the_end_token():
    tokenizer = make_tokenizer(pad_is_eos=True)
    tokenizer.unk_token = None
    assert not set_pad_token(tokenizer)
    assert tokenizer.pad_token == tokenizer.eos_token


def test_a_tokenizer_without_an_end_token_is_refused():
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no end-of-sequence token"):
        set_pad_token(tokenizer)
