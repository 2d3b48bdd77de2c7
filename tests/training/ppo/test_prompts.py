from collections import Counter

import pytest

from rlaif.errors import InputError
from rlaif.records import Prompt
from rlaif.training.data.prompts import PromptSet, read_prompt_set, stop_tokens
from tests.training.ppo.small import make_policy
from tests.training.tiny import make_tokenizer

LONG = "say " * 200


def read(prompts, tokenizer=None, **changes) -> PromptSet:
    settings = {"context": 128, "max_new_tokens": 16}
    return read_prompt_set(prompts, tokenizer or make_tokenizer(), **settings | changes)


def test_a_prompt_is_rendered_with_the_chat_template_up_to_where_the_reply_starts():
    tokenizer = make_tokenizer()
    conversation = [{"role": "system", "content": "yes"}, {"role": "user", "content": "no"}]
    found = read(["say red", conversation])
    shown = [tokenizer.decode(tokens) for tokens in found.tokens]
    assert shown == [
        "<s> user say red </s> <s> assistant",
        "<s> system yes </s> <s> user no </s> <s> assistant",
    ]


def test_prompts_longer_than_the_context_are_left_out_and_counted():
    found = read(["say red", LONG, "say blue"])
    assert [prompt.text for prompt in found.prompts] == ["say red", "say blue"]
    assert found.too_long == 1
    assert read(["say red", "say red blue"], max_prompt_tokens=7).too_long == 1


def test_the_response_needs_room_too():
    tokens = len(read(["say red"]).tokens[0])
    assert read(["say red"], context=tokens + 16).too_long == 0
    with pytest.raises(InputError, match="none of the 1 prompts fits"):
        read(["say red"], context=tokens + 15)


@pytest.mark.parametrize(
    ("prompts", "changes", "message"),
    [
        ([], {}, "no prompts"),
        ([LONG], {}, "none of the 1 prompts fits"),
        (["say red", ""], {}, "prompt 2: the prompt is empty"),
        (["say red"], {"max_new_tokens": 128}, "leaves no room for a prompt"),
        (["a"], {"tokenizer": make_tokenizer(template=False)}, "no chat template"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_message(prompts, changes, message: str):
    with pytest.raises(InputError, match=message):
        read(prompts, **changes)


def test_every_prompt_is_asked_once_before_any_is_asked_again():
    prompts = read([f"say red {'very ' * i}" for i in range(6)])
    rollouts = [prompts.ask(number, size=4, per_prompt=2, seed=0) for number in range(9)]
    asked = [one for rollout in rollouts for one in rollout]
    assert len(asked) == 36
    for lap in range(3):
        counts = Counter(one.prompt.id for one in asked[lap * 12 : lap * 12 + 12])
        assert set(counts.values()) == {2}
        assert len(counts) == 6
    assert len({one.seed for one in asked}) == 36
    orders = [[one.prompt.id for one in asked[lap * 12 : lap * 12 + 12]] for lap in range(3)]
    assert orders[0] != orders[1]


def test_what_is_asked_depends_on_seed_and_rollout_alone():
    prompts = read([f"say red {'very ' * i}" for i in range(6)])
    asked = prompts.ask(3, size=4, per_prompt=1, seed=5)
    assert asked == prompts.ask(3, size=4, per_prompt=1, seed=5)
    assert asked != prompts.ask(3, size=4, per_prompt=1, seed=6)
    assert asked != prompts.ask(4, size=4, per_prompt=1, seed=5)


def test_records_keep_their_ids_and_tags():
    record = Prompt.build("say red", id="mine", tags=["harmless"])
    asked = read([record]).ask(0, size=1, per_prompt=1, seed=0)[0]
    assert asked.prompt is record
    assert asked.messages == [{"role": "user", "content": "say red"}]


def test_the_fingerprint_names_prompts_and_tokens():
    assert read(["say red"]).fingerprint == read(["say red"]).fingerprint
    assert read(["say red"]).fingerprint != read(["say blue"]).fingerprint


def test_stop_tokens_are_the_tokenizers_and_the_checkpoints_own():
    model = make_policy()
    model.generation_config.eos_token_id = [7, 9]
    assert stop_tokens(model, make_tokenizer()) == (2, 7, 9)
    model.generation_config.eos_token_id = None
    assert stop_tokens(model, make_tokenizer()) == (2,)
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="neither model nor tokenizer has a stop token"):
        stop_tokens(model, tokenizer)
