import pytest

from rlaif.errors import InputError
from rlaif.training.data.chat import set_chat_template, set_pad_token
from tests.training.tiny import make_tokenizer, user


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
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer(template=False)
    start = [("<s>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=start
    )
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


def test_none_asks_for_no_template_at_all():
    tokenizer = make_tokenizer(template=False)
    set_chat_template(tokenizer, "none")
    assert tokenizer.chat_template is None


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
