import math
from dataclasses import fields, replace
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from rlaif.records import (
    Choice,
    Critique,
    Drop,
    Failure,
    Judgment,
    PreferencePair,
    Prompt,
    Response,
    Revision,
    Verdict,
)
from rlaif.runs import ROW_SCHEMA, read_rows, row_from_dict, row_to_dict, write_shard
from rlaif.runs.shards import hold_tools
from rlaif.runs.text import fix_json, fix_text
from tests.records.test_tool_use import ASKED, WEATHER
from tests.runs.made import make_judgment, make_row, make_verdict
from tests.runs.strategies import rows


@given(rows)
@settings(max_examples=60, deadline=None)
def test_a_row_survives_the_dictionary_and_json(row):
    assert row_from_dict(row_to_dict(row)) == row


@given(st.lists(rows, min_size=1, max_size=4, unique_by=lambda row: row.id))
@settings(max_examples=25, deadline=None)
def test_rows_survive_a_shard(tmp_path_factory, some):
    folder = tmp_path_factory.mktemp("shards")
    write_shard(folder, some, run="demo@1")
    assert list(read_rows(folder)) == sorted(some, key=lambda row: row.id)


@pytest.mark.parametrize(
    ("path", "record"),
    [
        ("responses", Response),
        ("critiques", Critique),
        ("revisions", Revision),
        ("judgments", Judgment),
        ("judgments.verdicts", Verdict),
        ("pairs", PreferencePair),
        ("drops", Drop),
        ("failures", Failure),
    ],
)
def test_the_schema_has_every_field_of_the_record(path, record):
    kind = pa.struct(list(ROW_SCHEMA))
    for name in path.split("."):
        kind = kind.field(name).type.value_type
    assert [field.name for field in kind] == [field.name for field in fields(record)]


def test_none_is_different_from_zero_and_empty():
    row = make_row(1)
    unknown = make_verdict(Choice.ABSTAIN, logit=None, mass=None, scores=None)
    known = make_verdict(Choice.A, logit=0.0, mass=0.0, scores=(0.0, 0.0))
    row = replace(row, judgments=(make_judgment(row.responses, None, unknown, known),))
    (judgment,) = row_from_dict(orjson.loads(orjson.dumps(row_to_dict(row)))).judgments
    assert judgment.preference is None
    assert [verdict.logit for verdict in judgment.verdicts] == [None, 0.0]
    assert [verdict.scores for verdict in judgment.verdicts] == [None, (0.0, 0.0)]


def test_infinite_log_odds_are_not_unknown_ones(tmp_path):
    row = make_row(1)
    sure = make_verdict(Choice.A, logit=math.inf)
    row = replace(row, judgments=(make_judgment(row.responses, 1.0, sure),))
    write_shard(tmp_path, [row], run="demo@1")
    assert list(read_rows(tmp_path)) == [row]


def test_half_a_character_costs_only_itself(tmp_path):
    texts = ["half \ud83d", "\x00\x1f\u2028 control", "plain"]
    some = [make_row(number, text=text) for number, text in enumerate(["x", "y", "z"])]
    some = [
        replace(row, responses=tuple(replace(one, text=text) for one in row.responses))
        for row, text in zip(some, texts, strict=True)
    ]
    write_shard(tmp_path, some, run="demo@1")
    read = {row.prompt.id: row.responses[0].text for row in read_rows(tmp_path)}
    assert read == {"p0": "half \ufffd", "p1": texts[1], "p2": "plain"}


def test_two_halves_of_a_character_become_whole():
    assert fix_text("\ud83d\ude00") == "😀"


@given(st.text())
def test_valid_text_is_unchanged(text):
    assert fix_text(text) == text


@given(st.text(st.characters(categories=("Cs", "L"))))
def test_fixed_text_can_be_written(text):
    (fixed,) = fix_json({text: [text]}).values()
    assert fixed[0].encode().decode() == fixed[0]


def test_a_shard_has_more_fields_only_where_a_prompt_has_tools(tmp_path: Path):
    plain = make_row(0)
    tools = replace(make_row(1), prompt=Prompt.build(ASKED, id="t", tools=[WEATHER]))
    for name, written, number in (("plain", [plain], 1), ("both", [plain, tools], 2)):
        folder = tmp_path / name
        folder.mkdir()
        path = write_shard(folder, written, run="demo")
        schema = pq.ParquetFile(path).schema_arrow
        assert schema.metadata[b"rlaif.schema"] == str(number).encode()
        assert (schema.field("prompt").type == ROW_SCHEMA.field("prompt").type) == (number == 1)
        assert hold_tools(folder) == (number == 2)
        assert {row.id: row for row in read_rows(folder)} == {row.id: row for row in written}
