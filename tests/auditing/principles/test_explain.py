"""What principles did in a run, on rows whose every number is chosen by hand."""

import json
from pathlib import Path

import pytest

from rlaif.auditing.gold import read_gold, side
from rlaif.auditing.principles.annotated_pairs import (
    export_annotated_pairs,
    principles_from_votes,
    read_annotated_pairs,
)
from rlaif.auditing.principles.explain import (
    OpinionWeights,
    contributions,
    deciding_principle,
    explain_rows,
)
from rlaif.config.judge import JudgeConfig
from rlaif.constitution import Constitution, Principle, Rule
from rlaif.errors import RecordError
from rlaif.judging import aggregate_verdicts
from rlaif.records import (
    Choice,
    Comparison,
    Judgment,
    Order,
    PreferencePair,
    Prompt,
    Response,
    Row,
    Verdict,
)
from rlaif.runs import JudgmentView
from tests.auditing.factories import verdict

KIND = Principle(id="kind", statement="Be kind.")
TRUE = Principle(id="true", statement="Be true.", weight=3.0)
BRIEF = Principle(id="brief", statement="Be brief.", kind="rule", rule=Rule(max_words=3))
WEIGHTS = OpinionWeights.build(
    Constitution(name="t", version="1", principles=(KIND, TRUE, BRIEF)),
    [JudgeConfig(name="j", engine="scripted", model="echo")],
)
PROMPT = Prompt.build("What?", id="p")
FIRST, SECOND = (Response.build("p", text, index=i) for i, text in enumerate(("One.", "Two.")))
COMPARISON = Comparison(FIRST, SECOND)


def judged(*verdicts: Verdict) -> Judgment:
    return aggregate_verdicts(COMPARISON, verdicts, weights=WEIGHTS.of(verdicts, PROMPT.tags))


def row(judgment: Judgment, *, paired: bool = True) -> Row:
    pair = PreferencePair("p", FIRST.id, SECOND.id, 0.9, 0.8, ("kind",), ("j",), 1.0, 0)
    return Row(
        id="0" * 32,
        prompt=PROMPT,
        responses=(FIRST, SECOND),
        judgments=(judgment,),
        pairs=(pair,) if paired else (),
    )


def says(principle: str, logit: float) -> Verdict:
    return verdict(Order.NONE, logit, principle=principle)


def test_contributions_add_up_to_the_preference() -> None:
    judgment = judged(says("kind", 2.0), says("true", -1.0))
    weights = WEIGHTS.of(judgment.verdicts, ())
    parts = contributions(judgment, weights)
    assert judgment.preference is not None
    assert sum(parts.values()) == pytest.approx(judgment.preference - 0.5)
    assert parts["kind"] > 0 > parts["true"]
    assert abs(parts["true"]) > abs(parts["kind"])  # three times the weight


def test_the_weights_are_those_the_pipeline_used() -> None:
    # One of the two judged principles was drawn: it speaks for both, with 1 + 3, beside the rule.
    rule = Verdict("rules", "rule", "brief", Order.NONE, Choice.A)
    weights = WEIGHTS.of([rule, says("kind", 1.0)], ())
    assert weights == {("rules", "brief"): 1.0, ("j", "kind"): 4.0}


def test_what_flips_without_a_principle_was_decided_by_it() -> None:
    heavy = judged(says("kind", 1.0), says("true", -1.0))  # true outweighs kind
    found = explain_rows([row(heavy)], WEIGHTS)
    true, kind = found.principles["true"], found.principles["kind"]
    assert (true.decided, true.flips, true.pairs) == (1, 1, 1)
    assert (kind.decided, kind.flips, kind.asked) == (0, 0, 1)
    assert found.never_mattered() == ["kind", "brief"]
    contradiction = found.contradictions[("kind", "true")]
    assert (contradiction.both, contradiction.opposed) == (1, 1)


def test_the_only_voice_matters_without_flipping_anything() -> None:
    found = explain_rows([row(judged(says("kind", 1.0)), paired=False)], WEIGHTS)
    kind = found.principles["kind"]
    assert (kind.only, kind.flips, kind.decided, kind.pairs) == (1, 0, 1, 0)
    assert "kind" not in found.never_mattered()


def test_agreeing_principles_do_not_contradict_and_neither_flips() -> None:
    found = explain_rows([row(judged(says("kind", 1.0), says("true", 2.0)))], WEIGHTS)
    assert found.contradictions[("kind", "true")].opposed == 0
    assert found.never_mattered() == ["kind", "true", "brief"]
    assert found.principles["true"].decided == 1


def test_a_judgment_without_preference_is_decided_by_no_principle() -> None:
    mute = judged(verdict(Order.NONE, None, principle="kind", reason="refused"))
    found = explain_rows([row(mute, paired=False)], WEIGHTS)
    assert found.undecided == 1
    assert not any(one.decided for one in found.principles.values())


def test_equal_pulls_go_to_the_first_id() -> None:
    assert deciding_principle({"b": 0.1, "a": 0.1, "c": -0.4}, 1) == "a"
    assert deciding_principle({"a": -0.1}, 1) is None
    assert (side(None), side(0.5), side(0.6), side(0.4)) == (None, 0, 1, -1)


def test_votes_go_out_and_come_back(tmp_path: Path) -> None:
    views = [JudgmentView(PROMPT, FIRST, SECOND, judged(says("kind", 1.0), says("true", -1.0)))]
    data = export_annotated_pairs(views, WEIGHTS, name="run@1")
    comparison = data["comparisons"][0]
    assert comparison["annotations"]["kind"] == {"pref": "a"}
    assert comparison["annotations"]["true"] == {"pref": "b"}
    assert comparison["annotations"][data["metadata"]["default_annotator"]] == {"pref": "b"}
    assert data["annotators"]["kind"]["type"] == "principle"
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    found = read_annotated_pairs(path)
    assert (found.votes["true"].agree, found.votes["kind"].disagree) == (1, 1)
    assert [one.statement for one in principles_from_votes(found, least_agreement=0.5)] == [
        "Be true."
    ]
    gold = tmp_path / "gold.jsonl"
    gold.write_text("\n".join(map(json.dumps, found.gold)), encoding="utf-8")
    (pair,) = read_gold(gold).pairs
    assert pair.label is Choice.B
    assert pair.comparison.first.text == "One."


def test_votes_of_another_tool_are_read_and_broken_ones_kept(tmp_path: Path) -> None:
    text = {"response_a": {"text": "x", "model": "m"}, "response_b": {"text": "y"}}
    votes = {"d": {"pref": "text_a"}, "k": {"pref": None, "no_pref_reason": "not_applicable"}}
    data = {
        "metadata": {"version": "2.0", "default_annotator": "d"},
        "annotators": {"d": {"type": "unknown"}, "k": {"description": "K.", "type": "principle"}},
        "comparisons": [{"id": "1", "prompt": "p", **text, "annotations": votes}, {"id": "2"}],
    }
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    found = read_annotated_pairs(path)
    assert found.votes["k"].silent == 1
    assert found.gold[0]["label"] == "a"
    assert [failure.record_id for failure in found.failures] == ["pairs.json:2"]
    data["metadata"] = {"version": "1.0"}
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(RecordError, match=r"version 1\.0"):
        read_annotated_pairs(path)
