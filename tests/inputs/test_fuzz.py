"""Whatever is in a file: prompts in = prompts out + failures, and ids are what they were."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st
from ruamel.yaml import YAML

from rlaif.config import RunConfig, load_config
from rlaif.errors import InputError, RecordError
from rlaif.records import Failure, Prompt, canonical_json
from tests.inputs.reading import read

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CALL = st.fixed_dictionaries({"function": st.fixed_dictionaries({"name": TEXT, "arguments": TEXT})})
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system"]), "content": TEXT},
    optional={
        "tool_calls": st.lists(CALL, max_size=2),
        "tool_call_id": TEXT,
        "name": TEXT | st.integers(),
    },
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
RECORD = st.fixed_dictionaries(
    {},
    optional={
        "prompt": TEXT | st.lists(TURN, max_size=4) | VALUE,
        "id": st.integers() | TEXT | VALUE,
        "tags": VALUE,
        "tools": VALUE,
    },
)
COLUMNS = {
    "column": "prompt",
    "id_column": "id",
    "tags_column": "tags",
    "tools_column": "tools",
}


def read_all(**source: Any) -> list[Prompt | Failure]:
    """Read to the end; no prompt at all is refused, which counts as nothing lost."""
    try:
        return read(**source, **COLUMNS)
    except RecordError:
        return []


def check(items: list[Prompt | Failure], count: int) -> None:
    assert len(items) in (count, 0)
    places = [one.source if isinstance(one, Prompt) else one.record_id for one in items]
    assert len(set(places)) == len(places)


@settings(max_examples=150, deadline=None)
@given(records=st.lists(RECORD | VALUE, min_size=1, max_size=5))
@pytest.mark.parametrize("form", ["jsonl", "json", "list"])
def test_every_json_record_is_a_prompt_or_a_failure(
    tmp_path_factory: pytest.TempPathFactory, form: str, records: list[Any]
):
    path = tmp_path_factory.mktemp("fuzz") / f"p.{form}"
    # Of a list, texts and lists of messages are prompts themselves.
    source: dict[str, Any] = {"items": tuple(records)} if form == "list" else {"path": path}
    if form == "jsonl":
        path.write_text("".join(json.dumps(one) + "\n" for one in records))
    elif form == "json":
        path.write_text(json.dumps(records))
    items = read_all(**source)
    check(items, len(records))
    given_ids = {str(one["id"]) for one in records if isinstance(one, dict) and "id" in one}
    numbers = (one for one in items if isinstance(one, Prompt) and form != "list")
    assert all(prompt.id in given_ids for prompt in numbers)


ROW = st.lists(st.text(st.sampled_from('ab,"\n\r \x00é'), max_size=6), min_size=2, max_size=2)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=6))
def test_the_output_of_a_csv_writer_is_read_word_for_word(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
):
    path = tmp_path_factory.mktemp("fuzz") / "p.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "prompt"], *rows])
    items = read_all(path=path)
    check(items, len(rows))
    for item, (name, text) in zip(items, rows, strict=False):
        if isinstance(item, Prompt):
            assert (item.id, item.text) == (name, text)


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(st.text(st.sampled_from('ab,"{}[]:1e.\x00'), max_size=9), max_size=6))
def test_every_line_of_any_jsonl_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
):
    path = tmp_path_factory.mktemp("fuzz") / "p.jsonl"
    first = '{"id": "ok", "prompt": "one"}'
    path.write_text("\n".join([first, *lines]))
    check(read(path, **COLUMNS), 1 + sum(1 for line in lines if line.strip()))


@settings(max_examples=200, deadline=None)
@given(rest=st.text(st.sampled_from('ab,"\n1'), max_size=30))
def test_every_line_of_any_csv_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, rest: str
):
    path = tmp_path_factory.mktemp("fuzz") / "p.csv"
    path.write_text(f"id,prompt\nok,one\n{rest}")
    items = read(path, column="prompt", id_column="id")
    assert isinstance(items[0], Prompt)
    if '"' not in rest:
        assert len(items) == 1 + sum(1 for line in rest.split("\n") if line)
    places = [one.source if isinstance(one, Prompt) else one.record_id for one in items]
    assert len(set(places)) == len(places)


CELLS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any], Callable[[Any], str]]] = {
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1), str),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1), str),
    "decimal": (
        pa.decimal128(20, 2),
        st.decimals(-(10**9), 10**9, places=2, allow_nan=False),
        str,
    ),
    "whole floats": (pa.float64(), st.integers(-(2**53), 2**53).map(float), lambda x: str(int(x))),
    "text": (pa.string(), TEXT.filter(bool), str),
}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("kind", CELLS)
def test_ids_of_a_table_keep_their_values(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
):
    type_, values, text = CELLS[kind]
    ids = data.draw(st.lists(st.none() | values, min_size=1, max_size=6, unique=True))
    path = tmp_path_factory.mktemp("fuzz") / "p.parquet"
    prompts = [f"p {n}" for n in range(len(ids))]
    pq.write_table(pa.table({"id": pa.array(ids, type_), "prompt": prompts}), path)
    items = read_all(path=path) if None in ids else read(path, column="prompt", id_column="id")
    check(items, len(ids))
    found = [item.id for item in items if isinstance(item, Prompt)]
    assert found == ([text(one) for one in ids if one is not None] if items else [])


SETTINGS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(
    prompts=SETTINGS | st.lists(SETTINGS, min_size=1),
    damage=st.text(st.sampled_from("[]{}&*<>:!-\n a"), max_size=6),
)
def test_any_yaml_gives_settings_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, prompts: Any, damage: str
):
    path = tmp_path_factory.mktemp("fuzz") / "run.yaml"
    text = io.StringIO()
    student = {"engine": "scripted", "model": "echo"}
    whole = {"name": "a", "constitution": "concise", "student": student, "out": "o"}
    YAML(typ="safe", pure=True).dump(whole | {"prompts": prompts}, text)
    path.write_text(text.getvalue() + damage, encoding="utf-8")
    try:
        config = load_config(RunConfig, path)
    except InputError as problem:
        message = str(problem)
        assert "Config" not in message
        assert "Traceback" not in message
    else:
        if items := config.prompts.items:
            canonical_json(config.model_dump(mode="json"))
            check(read_all(items=items), len(items))
