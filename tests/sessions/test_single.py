"""One comparison before one judge, from Python."""

import json
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.errors import ConfigError, EngineMissing
from rlaif.records import Choice

LONGER = {"engine": "scripted", "model": "judge-longer"}


def test_a_judge_compares_two_responses_in_both_orders():
    judgment = rlaif.judge("Why?", "short", "a longer one", "Be thorough.", judge=LONGER)
    assert judgment.preference is not None
    assert judgment.preference < 0.5
    assert [verdict.content_choice() for verdict in judgment.verdicts] == [Choice.B, Choice.B]
    assert {verdict.principle for verdict in judgment.verdicts} == {"given"}
    turned = rlaif.judge("Why?", "a longer one", "short", "Be thorough.", judge=LONGER)
    assert turned.preference == pytest.approx(1.0 - judgment.preference)


async def test_it_works_where_an_event_loop_is_running_and_can_be_awaited():
    arguments = ("Why?", "short", "a longer one", "Be thorough.")
    there = rlaif.judge(*arguments, judge=LONGER)
    assert await rlaif.ajudge(*arguments, judge=LONGER) == there


def test_a_principle_of_a_constitution_a_file_of_a_judge_and_one_order(tmp_path: Path):
    file = tmp_path / "judge.yaml"
    file.write_text(json.dumps({"name": "mine", **LONGER}))
    principle = rlaif.load_constitution("hhh").judged()[0]
    conversation = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Why?"},
    ]
    judgment = rlaif.judge(conversation, "a", "a b", principle, judge=file, orders="one")
    (verdict,) = judgment.verdicts
    assert (verdict.judge, verdict.principle) == ("mine", principle.id)


def test_replies_are_kept_only_where_a_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    rlaif.judge("Why?", "a", "a b", "Be thorough.", judge=LONGER)
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        rlaif.judge("Why?", "a", "a b", "Be thorough.", judge=LONGER, out=tmp_path / "kept")
    with rlaif.runs.Ledger.open(tmp_path / "kept" / "ledger.sqlite", read_only=True) as ledger:
        assert [total.calls for total in ledger.totals()] == [2]


def test_what_cannot_be_judged_is_said():
    def ask(prompt: str = "Why?", principle: Any = "Be kind.", judge: Any = LONGER) -> None:
        rlaif.judge(prompt, "a", "b", principle, judge=judge)

    with pytest.raises(ConfigError, match="same-as-student needs a run with a student"):
        ask(judge={"model": "same-as-student"})
    with pytest.raises(EngineMissing, match="unknown scripted behaviour 'judge-loner'"):
        ask(judge={"engine": "scripted", "model": "judge-loner"})
    with pytest.raises(ConfigError, match="prompt: the prompt is empty"):
        ask(prompt=" ")
    rule = rlaif.load_constitution("concise").rules()[0]
    with pytest.raises(ConfigError, match="is a rule, which needs no judge"):
        ask(principle=rule)
