import pytest

from rlaif.serving.texts import UnreadableQuery, parse_conversation, split_query, strip_special

SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = {"role": "user", "content": "Why?"}
SAID = {"role": "assistant", "content": "Because."}
AGAIN = {"role": "user", "content": "Really?\n\nYes?"}

RENDERED = {
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"
    "<|im_start|>assistant\nBecause.<|im_end|>\n<|im_start|>user\nReally?\n\nYes?<|im_end|>\n"
    "<|im_start|>assistant\n",
    "llama-3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant"
    "<|end_header_id|>\n\nBecause.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "Really?\n\nYes?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<bos><start_of_turn>system\nBe brief.<end_of_turn>\n<start_of_turn>user\nWhy?"
    "<end_of_turn>\n<start_of_turn>model\nBecause.<end_of_turn>\n<start_of_turn>user\n"
    "Really?\n\nYes?<end_of_turn>\n<start_of_turn>model\n",
    "zephyr": "<|system|>\nBe brief.</s>\n<|user|>\nWhy?</s>\n<|assistant|>\nBecause.</s>\n"
    "<|user|>\nReally?\n\nYes?</s>\n<|assistant|>\n",
    "mistral": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhy? [/INST] Because.</s>"
    "[INST] Really?\n\nYes? [/INST]",
}


@pytest.mark.parametrize("template", RENDERED)
def test_the_common_templates_are_taken_apart(template: str):
    messages, started = parse_conversation(RENDERED[template])
    assert messages == [SYSTEM, ASKED, SAID, AGAIN]
    assert started == ""


def test_what_the_assistant_was_started_with_belongs_to_the_response():
    messages, started = parse_conversation(RENDERED["chatml"] + "Sure, ")
    assert messages[-1] == AGAIN
    assert started == "Sure,"


def test_any_other_text_is_what_the_user_said_without_special_tokens():
    messages, _ = parse_conversation("<s> Question: why? [SEP] Answer: ", ["[SEP]"])
    assert messages == [{"role": "user", "content": "Question: why?  Answer:"}]


def test_a_response_is_what_follows_the_prompt():
    prompt = RENDERED["chatml"]
    assert split_query(prompt + "Yes.<|im_end|>", prompt) == "Yes.<|im_end|>"
    cut = prompt[20:] + "Yes."  # OpenRLHF cuts long prompts on the left
    assert split_query(cut, prompt) == "Yes."
    assert split_query("<s> " + prompt + "Yes.", prompt) == "Yes."


def test_a_query_without_its_prompt_is_not_guessed_at():
    with pytest.raises(UnreadableQuery):
        split_query("Something else entirely.", "Question: why is this so?")


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("Yes.<|im_end|>", "Yes."),
        ("Yes.</s></s>\n<pad>", "Yes."),
        ("<s> Yes <|x|> no.", " Yes <|x|> no."),
        ("Two  spaces ", "Two  spaces "),
        ("<|im_end|>", ""),
    ],
)
def test_special_tokens_go_from_the_ends_only(text: str, stripped: str):
    assert strip_special(text) == stripped
