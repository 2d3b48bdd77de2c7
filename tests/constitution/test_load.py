from pathlib import Path

import pytest

from rlaif.constitution import constitution_from_mapping, load_constitution, shipped
from rlaif.constitution.load import read_constitution
from rlaif.errors import ConstitutionError
from tests.constitution.factories import SHIPPED, write

BASE = """\
name: base
version: 1.0.0
principles:
  - id: a
    statement: First wish of the base.
    weight: 1
    tags: [x, y]
  - id: b
    statement: Second wish of the base.
    examples: [{prompt: p, better: b, worse: w}]
  - id: c
    kind: rule
    statement: Third wish of the base.
    rule: {max_words: 5, min_words: 2}
"""


def derived(tmp_path: Path, rest: str, extends: str = "base.yaml") -> Path:
    write(tmp_path, "base.yaml", BASE)
    return write(tmp_path, "mine.yaml", f"name: mine\nversion: 1.0.0\nextends: {extends}\n{rest}")


def ids(source: Path) -> list[str]:
    return [principle.id for principle in load_constitution(source).principles]


def test_missing_fields_get_their_defaults(tmp_path: Path):
    loaded = load_constitution(write(tmp_path, "base.yaml", BASE))
    first, _, third = loaded.principles
    assert (loaded.name, loaded.version, loaded.description) == ("base", "1.0.0", "")
    assert (first.weight, first.tags, first.polarity) == (1.0, ("x", "y"), "encourage")
    assert third.rule is not None
    assert third.rule.max_words == 5


def test_the_line_break_of_a_block_is_not_part_of_the_text(tmp_path: Path):
    text = "name: n\nversion: v\nprinciples:\n  - id: a\n    statement: |\n      Be brief.\n"
    assert load_constitution(write(tmp_path, "n.yaml", text)).principles[0].statement == "Be brief."


def test_a_partial_override_keeps_the_other_fields_and_the_place(tmp_path: Path):
    path = derived(tmp_path, "principles:\n  - {id: a, weight: 3}\n  - {id: d, statement: Mine.}\n")
    loaded = load_constitution(path)
    assert [p.id for p in loaded.principles] == ["a", "b", "c", "d"]
    first = loaded.principle("a")
    assert (first.weight, first.statement) == (3.0, "First wish of the base.")
    assert first.tags == ("x", "y")


def test_lists_and_rules_are_replaced_whole(tmp_path: Path):
    path = derived(
        tmp_path, "principles:\n  - {id: a, tags: [z]}\n  - {id: c, rule: {max_words: 9}}\n"
    )
    loaded = load_constitution(path)
    assert loaded.principle("a").tags == ("z",)
    rule = loaded.principle("c").rule
    assert rule is not None
    assert (rule.max_words, rule.min_words) == (9, None)


def test_a_rule_can_be_turned_into_a_judged_principle(tmp_path: Path):
    path = derived(tmp_path, "principles:\n  - {id: c, kind: judged, rule: null}\n")
    changed = load_constitution(path).principle("c")
    assert (changed.kind, changed.rule) == ("judged", None)


def test_removed_principles_are_gone_and_may_be_added_again(tmp_path: Path):
    path = derived(tmp_path, "remove: [a, b]\nprinciples:\n  - {id: a, statement: A new one.}\n")
    loaded = load_constitution(path)
    assert [p.id for p in loaded.principles] == ["c", "a"]
    assert loaded.principle("a").tags == ()  # nothing of the removed one is left


def test_extends_and_remove_may_be_single_names(tmp_path: Path):
    assert ids(derived(tmp_path, "remove: b\n")) == ["a", "c"]


def test_later_constitutions_override_earlier_ones(tmp_path: Path):
    write(
        tmp_path,
        "other.yaml",
        "name: o\nversion: v\nprinciples:\n"
        "  - {id: b, statement: Second wish of the other.}\n"
        "  - {id: e, statement: Fifth wish of the other.}\n",
    )
    loaded = load_constitution(derived(tmp_path, "", extends="[base.yaml, other.yaml]"))
    assert [p.id for p in loaded.principles] == ["a", "b", "c", "e"]
    assert loaded.principle("b").statement == "Second wish of the other."
    assert len(loaded.principle("b").examples) == 1
    reverse = load_constitution(derived(tmp_path, "", extends="[other.yaml, base.yaml]"))
    assert reverse.principle("b").statement == "Second wish of the base."


def test_extends_starts_at_the_folder_of_the_file_that_names_it(tmp_path: Path, monkeypatch):
    (tmp_path / "sub").mkdir()
    write(tmp_path, "base.yaml", BASE)
    path = write(
        tmp_path / "sub", "mine.yaml", "name: m\nversion: v\nextends: ../base.yaml\nremove: [c]\n"
    )
    monkeypatch.chdir(tmp_path / "sub")
    assert ids(path) == ids(Path("mine.yaml")) == ["a", "b"]


def test_two_paths_to_one_constitution_are_not_circular(tmp_path: Path):
    write(tmp_path, "base.yaml", BASE)
    write(tmp_path, "left.yaml", "name: l\nversion: v\nextends: base.yaml\nremove: [a]\n")
    write(tmp_path, "right.yaml", "name: r\nversion: v\nextends: base.yaml\n")
    path = write(tmp_path, "n.yaml", "name: n\nversion: v\nextends: [left.yaml, right.yaml]\n")
    assert ids(path) == ["b", "c", "a"]


def test_a_shipped_constitution_can_be_extended_by_name(tmp_path: Path):
    path = write(tmp_path, "hhh.yaml", "name: mine\nversion: v\nextends: hhh\nremove: no-padding\n")
    assert len(ids(path)) == len(load_constitution("hhh").principles) - 1


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_names_work_with_and_without_the_ending_from_any_folder(
    name: str, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert load_constitution(name) == load_constitution(f"{name}.yaml")
    assert load_constitution(name).name == name


def test_an_existing_file_comes_before_a_shipped_name(tmp_path: Path, monkeypatch):
    write(tmp_path, "hhh.yaml", BASE)
    monkeypatch.chdir(tmp_path)
    assert load_constitution("hhh.yaml").name == "base"
    assert load_constitution("hhh").name == "hhh"


def test_the_copy_in_the_wheel_comes_before_the_checkout(tmp_path: Path, monkeypatch):
    write(tmp_path, "hhh.yaml", BASE)
    monkeypatch.setattr(shipped, "_FOLDERS", (tmp_path, shipped.shipped_folder()))
    assert load_constitution("hhh").name == "base"
    assert shipped.shipped_names() == ("hhh",)


def test_a_mapping_loads_like_a_file_with_those_keys(tmp_path: Path):
    write(tmp_path, "base.yaml", BASE)
    data = {
        "name": "m",
        "version": "v",
        "extends": ("base.yaml",),
        "principles": [{"id": "a", "weight": 2}],
    }
    loaded = constitution_from_mapping(data, base=tmp_path)
    assert loaded.principle("a").weight == 2.0
    assert len(loaded.principles) == 3


def test_problems_of_a_mapping_are_named_by_key():
    with pytest.raises(ConstitutionError) as caught:
        constitution_from_mapping(
            {"name": "m", "version": "v", "principles": [{"id": "a", "weigth": 2}]}
        )
    assert str(caught.value).splitlines() == [
        "<constitution>: unknown key 'principles.0.weigth'; did you mean 'weight'?",
        "<constitution>: principles.0.statement is missing; "
        "add it: the wish in one plain sentence.",
    ]


def test_a_loaded_file_names_the_file_each_field_comes_from(tmp_path: Path):
    path = derived(tmp_path, "principles:\n  - {id: a, weight: 3}\n")
    sources = read_constitution(path).sources("a")
    assert sources == {
        str(path): ("id", "weight"),
        str(tmp_path / "base.yaml"): ("statement", "tags"),
    }
