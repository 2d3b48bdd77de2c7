from typing import Any

import pytest
from datasets import Dataset

from rlaif.errors import InputError
from rlaif.training.data.tokens import tokenise_demonstrations, tokenise_pairs
from tests.training.tiny import assistant, make_tokenizer, user


def pair(prompt: Any, chosen: Any = "good red", rejected: Any = "bad") -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "chosen_prob": 0.9}


def words(tokenizer: Any, ids: list[int]) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens(ids))


def test_a_response_starts_after_the_generation_prompt_and_ends_with_its_turn():
    tokenizer = make_tokenizer()
    row = pair(user("say red"), assistant("good"), assistant("bad"))
    tokens = tokenise_pairs(Dataset.from_list([row]), tokenizer, max_length=64).dataset[0]
    prompt = " ".join(words(tokenizer, tokens["prompt_ids"]))
    assert prompt == "<s> user say red </s> <s> assistant"
    assert words(tokenizer, tokens["chosen_ids"]) == ["good", "</s>"]


def test_strings_are_taken_as_turns_and_that_is_said():
    tokenizer = make_tokenizer()
    strings = tokenise_pairs(Dataset.from_list([pair("say red")]), tokenizer, max_length=64)
    turns = tokenise_pairs(
        Dataset.from_list([pair(user("say red"), assistant("good red"), assistant("bad"))]),
        tokenizer,
        max_length=64,
    )
    assert strings.dataset[:] == turns.dataset[:]
    assert "taken as user turns" in strings.notes[0]
    assert not turns.notes


def test_plain_strings_get_an_end_token_and_no_template():
    tokenizer = make_tokenizer(template=False)
    plain = tokenise_pairs(
        Dataset.from_list([pair("say red ", "good", "bad")]), tokenizer, max_length=64, plain=True
    )
    row = plain.dataset[0]
    assert words(tokenizer, row["prompt_ids"]) == ["say", "red"]
    assert not plain.notes


def test_conversations_cannot_be_plain():
    row = pair(user("say red"), assistant("good"), assistant("bad"))
    with pytest.raises(InputError, match="chat_template is none"):
        tokenise_pairs(Dataset.from_list([row]), make_tokenizer(), max_length=64, plain=True)


def test_a_prompt_that_fills_the_context_is_left_out_and_counted():
    rows = Dataset.from_list([pair("say " * 20), pair("say red")])
    tokens = tokenise_pairs(rows, make_tokenizer(), max_length=16)
    assert len(tokens.dataset) == 1
    assert "1 of 2 rows left out" in " ".join(tokens.notes)


def test_nothing_but_long_prompts_is_refused():
    with pytest.raises(InputError, match="all 1 prompts fill max_length 8"):
        tokenise_pairs(Dataset.from_list([pair("say " * 20)]), make_tokenizer(), max_length=8)


def test_a_long_response_is_cut_and_that_is_said():
    rows = Dataset.from_list([pair("say red", "good " * 30)])
    tokens = tokenise_pairs(rows, make_tokenizer(), max_length=16)
    row = tokens.dataset[0]
    assert len(row["prompt_ids"]) + len(row["chosen_ids"]) == 16
    assert "1 of 1 rows have a response cut" in " ".join(tokens.notes)


def test_the_fingerprint_follows_tokens_and_labels():
    def fingerprint(p: float, prompt: str = "say red") -> str:
        row = pair(prompt) | {"chosen_prob": p}
        found = tokenise_pairs(Dataset.from_list([row]), make_tokenizer(), max_length=32)
        return found.fingerprint

    assert fingerprint(0.9) == fingerprint(0.9)
    assert len({fingerprint(0.9), fingerprint(0.8), fingerprint(0.9, "say blue")}) == 3


def test_demonstrations_keep_prompt_and_response_apart():
    tokenizer = make_tokenizer()
    rows = Dataset.from_list([{"prompt": user("say red"), "completion": assistant("red")}])
    row = tokenise_demonstrations(rows, tokenizer, max_length=32).dataset[0]
    assert words(tokenizer, row["completion_ids"]) == ["red", "</s>"]


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in pairs]


def test_pairs_that_are_the_same_after_the_cut_are_left_out_and_counted():
    same = pair(user("say red"), assistant("good " * 20 + "red"), assistant("good " * 20 + "blue"))
    rows = Dataset.from_list([same, pair(user("say red"), assistant("good"), assistant("bad"))])
    tokens = tokenise_pairs(rows, make_tokenizer(), max_length=16)
    assert len(tokens.dataset) == 1
    assert "1 of 2 pairs left out: both responses are the same tokens" in " ".join(tokens.notes)
    with pytest.raises(InputError, match="nothing is left to learn: 1 of 1 pairs"):
        tokenise_pairs(rows.select([0]), make_tokenizer(), max_length=16)


def test_a_pair_without_prompt_tokens_is_left_out_and_counted():
    rows = Dataset.from_list([pair("", "good", "bad"), pair("say ", "good", "bad")])
    tokens = tokenise_pairs(rows, make_tokenizer(template=False), max_length=16, plain=True)
    assert len(tokens.dataset) == 1
    assert "1 of 2 rows left out: the prompt has no token" in tokens.notes


def test_only_the_assistants_turns_of_a_response_are_learned():
    tokenizer = make_tokenizer()
    chosen = turns(("assistant", "yes red"), ("user", "more"), ("assistant", "very good"))
    rows = Dataset.from_list([pair(user("say"), chosen, assistant("no"))] * 2)
    row = tokenise_pairs(rows, tokenizer, max_length=64).dataset[1]
    said = words(tokenizer, row["chosen_ids"])
    assert said == [
        "yes",
        "red",
        "</s>",
        "<s>",
        "user",
        "more",
        "</s>",
        "<s>",
        "assistant",
        "very",
        "good",
        "</s>",
    ]
    learned = [w for w, keep in zip(said, row["chosen_learned"], strict=True) if keep]
    assert learned == ["yes", "red", "</s>", "very", "good", "</s>"]
    assert row.get("rejected_learned") is None
    cut = tokenise_pairs(rows, tokenizer, max_length=12).dataset[0]
    assert len(cut["chosen_ids"]) == len(cut["chosen_learned"]) == 12 - len(cut["prompt_ids"])
