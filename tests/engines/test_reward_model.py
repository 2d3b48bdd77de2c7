import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rlaif.engines import Capability, Label, Score, open_engine
from rlaif.errors import CallFailed, ConfigError, EngineError, EngineMissing
from rlaif.records import Message
from tests.engines.tiny import make_tiny

PROMPT: tuple[Message, ...] = ({"role": "user", "content": "How do I boil an egg?"},)
REPLIES = ["Put it in water.", "No.", "the quick brown fox " * 6]


def make_scorer(folder: Path, *, labels: int = 1) -> Path:
    """A tiny reward model of random weights, whose pad token is its end token."""
    make_tiny(folder)
    torch.manual_seed(1)
    build: Any = AutoModelForSequenceClassification
    scorer = build.from_pretrained(folder, num_labels=labels, dtype=torch.float32)
    torch.nn.init.normal_(scorer.score.weight, std=0.5)
    scorer.save_pretrained(folder)
    return folder


def brute_force(folder: Path, reply: str) -> float:
    """The score as transformers gives it, one text at a time, so that no pad is in the way."""
    build: Any = AutoModelForSequenceClassification
    model = build.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    messages = [*PROMPT, {"role": "assistant", "content": reply}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids).last_hidden_state[:, -1]
        return float(model.score(hidden)[0, 0])


async def test_a_batch_gives_the_scores_of_each_by_itself(tmp_path: Path) -> None:
    folder = make_scorer(tmp_path / "rm")
    engine = open_engine("reward-model", model=str(folder), options={"max_batch": 2})
    assert engine.capabilities == {Capability.REWARD}
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(engine.ask(Score(PROMPT, reply))) for reply in REPLIES]
    found = [task.result()[0] for task in tasks]
    await engine.aclose()
    for reply, one in zip(REPLIES, found, strict=True):
        assert one.score == pytest.approx(brute_force(folder, reply), abs=1e-5)
        assert one.usage.prompt_tokens > 0
    assert len({one.score for one in found}) == 3
    with pytest.raises(EngineError, match="closed"):
        await engine.ask(Score(PROMPT, "late"))


async def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    engine = open_engine("reward-model", model=str(make_scorer(tmp_path / "rm")))
    with pytest.raises(CallFailed, match="context") as problem:
        await engine.ask(Score(PROMPT, "egg " * 500))
    assert problem.value.kind == "context-length"
    with pytest.raises(EngineMissing, match="Label"):
        await engine.ask(Label(PROMPT, ("A", "B")))
    await engine.aclose()
    await engine.aclose()


def test_weights_are_told_apart_by_content(tmp_path: Path) -> None:
    one = open_engine("reward-model", model=str(make_scorer(tmp_path / "one")))
    same = open_engine("reward-model", model=str(make_scorer(tmp_path / "same")))
    assert one.identity == same.identity
    assert str(tmp_path) not in str(one.identity)


def test_models_that_are_no_reward_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match="cannot be loaded"):
        open_engine("reward-model", model=str(tmp_path / "nowhere"))
    with pytest.raises(EngineMissing, match="has 2 labels"):
        open_engine("reward-model", model=str(make_scorer(tmp_path / "two", labels=2)))
    generator = make_tiny(tmp_path / "generator")
    with pytest.raises(EngineMissing, match=r"labels|no weights for score"):
        open_engine("reward-model", model=str(generator))
    with pytest.raises(ConfigError, match="max_batsh"):
        open_engine("reward-model", model=str(tmp_path / "two"), options={"max_batsh": 2})
