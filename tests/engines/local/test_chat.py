from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlaif.engines.local.chat import Chat
from rlaif.errors import CallFailed
from rlaif.records import Message, Prompt
from tests.engines.local.brute import Brute, user
from tests.records.test_tool_use import ASKED, WEATHER


@pytest.fixture
def brute(tiny_models: Callable[[str], Path]) -> Brute:
    return Brute(tiny_models("llama"))


def spaced() -> Any:
    """A tokenizer that puts a space before every text, as SentencePiece models do."""
    words = ["<s>", "</s>", "<unk>", "▁", "▁say", "▁A", "A", "▁B", "B", "▁Yes", "s", "ay", "▁Y"]
    bare = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>")
    )
    bare.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    bare.decoder = decoders.Metaspace(prepend_scheme="always")
    wrap: Any = PreTrainedTokenizerFast
    tokenizer = wrap(tokenizer_object=bare, unk_token="<unk>", eos_token="</s>")
    tokenizer.chat_template = "{{ messages[0].content }}"
    return tokenizer


def test_the_prompt_ends_where_the_assistant_starts(brute: Brute):
    chat = Chat(brute.tokenizer)
    assert brute.tokenizer.decode(chat.prompt_ids(user("Yes."), "No")) == (
        "<|im_start|>user\nYes.<|im_end|>\n<|im_start|>assistant\nNo"
    )


def test_prompt_and_continuation_are_tokenised_as_one_text(brute: Brute):
    prompt, scored = Chat(brute.tokenizer).score_ids(user("Yes."), " the lazy dog")
    assert prompt == Chat(brute.tokenizer).prompt_ids(user("Yes."))
    assert brute.tokenizer.decode(scored) == " the lazy dog"


def test_a_token_over_the_boundary_is_split_there(brute: Brute):
    brute.tokenizer.chat_template = "{{ messages[0].content }}"
    chat = Chat(brute.tokenizer)
    whole = brute.encode("the quick")
    prompt, scored = chat.score_ids(user("the qui"), "ck")
    assert [*prompt, *scored] != whole
    assert (brute.tokenizer.decode(prompt), brute.tokenizer.decode(scored)) == ("the qui", "ck")


def test_both_forms_of_a_label_are_found_where_every_text_gets_a_space():
    tokenizer = spaced()
    assert Chat(tokenizer).label_ids(["A", "B"]) == [(5, 6), (7, 8)]
    assert Chat(tokenizer).label_ids(["Yes", "A"]) == [(9,), (5, 6)]
    with pytest.raises(CallFailed, match="'No' is not a single token"):
        Chat(tokenizer).label_ids(["No", "A"])


def test_a_continued_text_keeps_the_space_of_its_first_word():
    chat = Chat(spaced())
    assert chat.text([5, 7]) == "A B"
    assert chat.text([5, 7], after=[4]) == " A B"


def test_a_character_split_by_the_stub_does_not_lose_the_reply(brute: Brute):
    chat = Chat(brute.tokenizer)
    ids = brute.encode("é")
    assert len(ids) == 2
    assert chat.text([ids[1], *brute.encode("A")], after=ids[:1]).endswith("A")


def test_the_limit_counts_prompt_and_reply(brute: Brute):
    length = len(Chat(brute.tokenizer).prompt_ids(user("Yes.")))
    assert Chat(brute.tokenizer, context=length + 1).prompt_ids(user("Yes."))
    with pytest.raises(CallFailed, match=f"{length} tokens") as failure:
        Chat(brute.tokenizer, context=length).prompt_ids(user("Yes."))
    assert failure.value.kind == "context-length"


KNOWS_TOOLS = """\
{%- for tool in tools or [] %}[{{ tool.function.name }}]{% endfor %}
{%- for m in messages %}<{{ m.role }}>{{ m.content }}
{%- for call in m.tool_calls or [] %}!{{ call.function.name }}
{%- for key, value in call.function.arguments.items() %} {{ key }}={{ value }}{% endfor %}
{%- endfor %}{% endfor %}"""


def test_a_template_that_knows_tools_gets_definitions_calls_and_results(brute: Brute):
    messages = Prompt.build(ASKED, tools=[WEATHER]).messages
    brute.tokenizer.chat_template = KNOWS_TOOLS
    rendered = brute.tokenizer.decode(Chat(brute.tokenizer).prompt_ids(messages))
    assert rendered == "[weather]<user>Is it raining?<assistant>!weather city=Köln<tool>yes"


def test_folding_the_system_text_keeps_the_tools(brute: Brute):
    system: Message = {"role": "system", "content": "Be brief."}
    messages = Prompt.build([system, *ASKED], tools=[WEATHER]).messages
    brute.tokenizer.chat_template = KNOWS_TOOLS
    rendered = brute.tokenizer.decode(Chat(brute.tokenizer, fold=True).prompt_ids(messages))
    assert rendered.startswith("[weather]<user>Be brief.\n\nIs it raining?<assistant>")


def test_a_template_that_leaves_out_a_call_fails_the_call(brute: Brute):
    with pytest.raises(CallFailed, match="leaves out the tool 'weather'") as caught:
        Chat(brute.tokenizer).prompt_ids(Prompt.build(ASKED).messages)
    assert caught.value.kind == "chat-template"


def test_system_text_is_folded_where_the_template_takes_no_system_role():
    tokenizer = spaced()
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{{ messages[0].content }}"
    )
    system: Message = {"role": "system", "content": "say"}
    messages = (system, *user("Yes"))
    with pytest.raises(CallFailed, match=r"options\.system: fold"):
        Chat(tokenizer).prompt_ids(messages)
    plain = Chat(tokenizer).prompt_ids(user("say\n\nYes"))
    assert Chat(tokenizer, fold=True).prompt_ids(messages) == plain
