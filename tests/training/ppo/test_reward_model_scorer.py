from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from rlaif.errors import InputError
from rlaif.training.ppo.train import train_ppo
from rlaif.training.reward_model_scorer import reward_model_scorer, score_tokens
from tests.training.ppo.small import make_critic, save_policy, save_reward_model
from tests.training.tiny import make_tokenizer, user

TEMPLATE = "{% for m in messages %}{{ m['role'] + ' ' + m['content'] + ' </s> ' }}{% endfor %}"
REPLIES = ["good red", "bad", "very very very much more"]


def test_scores_are_those_of_the_model_reading_each_conversation_alone(tmp_path: Path):
    tokenizer = make_tokenizer(pad_is_eos=True)
    folder = save_reward_model(tmp_path / "rm", tokenizer=tokenizer)
    prompts: Any = [user("say red")] * 3
    found: Any = reward_model_scorer(str(folder))(prompts, REPLIES)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for reply, score in zip(REPLIES, found, strict=True):
        text = f"<s> user say red </s> <s> assistant {reply} </s> "
        ids = torch.tensor([tokenizer(text).input_ids])
        with torch.no_grad():
            hidden = model.model(ids).last_hidden_state[:, -1]
            assert score == pytest.approx(float(model.score(hidden)), abs=1e-5)


def test_scores_do_not_depend_on_batching_or_on_the_pad_token():
    model, ids = make_critic(), [[5, 6, 7], [8], [9, 2, 2], [3, 3]]  # ends look like padding
    alone = [score_tokens(model, [one], pad_id=0)[0] for one in ids]
    for pad_id in (0, 2, 3):
        assert score_tokens(model, ids, pad_id=pad_id) == pytest.approx(alone, abs=1e-5)
        small = score_tokens(model, ids, pad_id=pad_id, most_tokens=4)
        assert small == pytest.approx(alone, abs=1e-5)


def test_a_conversation_longer_than_the_reward_model_reads_is_unscored(tmp_path: Path):
    folder = save_reward_model(tmp_path / "rm", max_position_embeddings=16)
    prompts: Any = [user("say red")] * 2
    found: Any = reward_model_scorer(str(folder))(prompts, ["good", "very " * 20])
    assert found[0] is not None
    assert found[1] is None


def test_a_reward_model_with_another_tokenizer_scores_the_policys_text(tmp_path: Path):
    # The same words have other ids here, and the template differs: only text can be shared.
    other = make_tokenizer()
    names = [name for name, _ in sorted(other.get_vocab().items(), key=lambda item: item[1])]
    shuffled = [*names[:4], *reversed(names[4:])]
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(shuffled)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    other = type(other)(
        tokenizer_object=inner, unk_token="<unk>", eos_token="</s>", pad_token="<pad>"
    )
    other.chat_template = TEMPLATE
    reward_model = save_reward_model(tmp_path / "rm", tokenizer=other)
    scorer = reward_model_scorer(str(reward_model))
    result = train_ppo(
        prompts=["say red", "say blue"],
        model=save_policy(tmp_path / "policy"),
        scorer=scorer,
        out=tmp_path / "out",
        rollouts=1,
        rollout_size=4,
        minibatch_size=4,
        max_new_tokens=6,
        critic_warmup=0,
        show_samples=4,
        show_every=1,
    )
    assert result.metrics["score/unscored"] == 0
    model: Any = AutoModelForSequenceClassification.from_pretrained(reward_model).eval()
    text = "user say red </s> assistant good bad </s> "
    with torch.no_grad():
        expected = model(torch.tensor([other(text).input_ids])).logits[0, 0]
    prompts: Any = [user("say red")]
    assert scorer(prompts, ["good bad"]) == pytest.approx([float(expected)], abs=1e-5)


def test_a_policy_is_refused_as_a_reward_model(tmp_path: Path):
    with pytest.raises(
        InputError, match=r"not a reward model: it has no weights for score\.weight"
    ):
        reward_model_scorer(str(save_policy(tmp_path / "policy")))


def test_an_unscored_response_comes_with_the_reason(tmp_path: Path):
    folder = save_reward_model(tmp_path / "rm", tokenizer=make_tokenizer())
    called = {"type": "function", "function": {"name": "colour", "arguments": "{}"}}
    calls = {"role": "assistant", "content": "", "tool_calls": [called]}
    prompts: Any = [user("say"), user("say " * 2000), [*user("say"), calls, *user("say")]]
    why: list[list[str]] = [[], [], []]
    scores: Any = reward_model_scorer(str(folder))(prompts, ["red"] * 3, why=why)
    assert [score is None for score in scores] == [False, True, True]
    assert why[0] == []
    assert "does not fit the reward model's context" in why[1][0]
    assert "does not support the conversation's tools" in why[2][0]
