"""Every way to write a wrong file: one line per mistake, with its position and a fix."""

from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from rlaif.constitution import (
    Constitution,
    Principle,
    Rule,
    constitution_from_mapping,
    load_constitution,
)
from rlaif.constitution.file_format import ConstitutionFile
from rlaif.errors import ConstitutionError
from tests.constitution.factories import write

HEAD = "name: n\nversion: 1.0.0\nprinciples:\n"
GOOD = HEAD + "  - id: a\n    statement: A wish in words.\n"


def problems(path: Path | str) -> list[str]:
    with pytest.raises(ConstitutionError) as caught:
        load_constitution(path)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{path}:", "").splitlines()


ONE_MISTAKE = {
    "unknown key of the file": (
        GOOD + "extend: [x]\n",
        "6:1: unknown key 'extend'; did you mean 'extends'?",
    ),
    "unknown key of a principle": (
        GOOD + "    polartiy: avoid\n",
        "6:5: unknown key 'polartiy'; did you mean 'polarity'?",
    ),
    "unknown key of a rule": (
        GOOD + "    kind: rule\n    rule:\n      max_word: 5\n",
        "8:7: unknown key 'rule.max_word'; did you mean 'max_words'?",
    ),
    "unknown key of an example": (
        GOOD + "    examples:\n      - {prompt: p, better: b, worse: w, wors: x}\n",
        "7:42: unknown key 'examples.0.wors'; did you mean 'worse'?",
    ),
    "missing version": (
        "name: n\nprinciples: [{id: a, statement: A wish.}]\n",
        "1:1: version is missing; add it: for readers, such as 1.0.0; not part of identity.",
    ),
    "number in place of text": (
        GOOD.replace("1.0.0", "1.0"),
        '2:1: version must be text (found 1.0); put it in quotes: "1.0"',
    ),
    "text in place of a number": (
        GOOD + "    weight: heavy\n",
        "6:5: weight must be a number (found 'heavy'); write a number, without quotes",
    ),
    "true in place of a number": (
        GOOD + "    weight: true\n",
        "6:5: weight must be a number (found True); fix or remove it",
    ),
    "text in place of a list": (
        GOOD + "    tags: harmless\n",
        "6:5: tags must be a list (found 'harmless'); write a list: [harmless]",
    ),
    "list in place of text": (
        GOOD + "    comparison: [a]\n",
        "6:5: comparison must be text (found a list); fix or remove it",
    ),
    "nothing in place of text": (
        GOOD + "    comparison:\n",
        "6:5: comparison must be text (found nothing); fix or remove it",
    ),
    "text in place of a principle": (
        GOOD + "  - be brief\n",
        "6:5: principles.1 must be keys and values (found 'be brief'); fix or remove it",
    ),
    "negative weight": (GOOD + "    weight: -1\n", "6:5: weight is -1; write 0 or more"),
    "infinite weight": (
        GOOD + "    weight: .inf\n",
        "6:5: weight must be a finite number (found inf); fix or remove it",
    ),
    "word that is not allowed": (
        GOOD + "    polarity: avoyd\n",
        "6:5: polarity: 'avoyd' is not allowed; did you mean 'avoid'?",
    ),
    "id with spaces": (
        HEAD + "  - id: No Harm!\n    statement: A wish.\n",
        "4:5: id: 'No Harm!' is not a valid id; write lower-case words joined by hyphens: no-harm",
    ),
    "no id": (
        HEAD + "  - statement: A wish.\n",
        "4:5: id is missing; add id: such as be-brief",
    ),
    "no statement": (
        HEAD + "  - id: a\n",
        "4:5: statement is missing; add it: the wish in one plain sentence.",
    ),
    "empty statement": (
        HEAD + "  - id: a\n    statement: '  '\n",
        "5:5: statement is empty; write at least one word",
    ),
    "duplicate id": (
        GOOD + "  - statement: Another wish.\n    id: a\n",
        "7:5: duplicate id 'a', used before at 4:5; rename one of them",
    ),
    "bad regular expression": (
        GOOD + "    kind: rule\n    rule: {max_words: 5, must_match: 'a('}\n",
        "7:26: rule.must_match is not a valid regular expression: "
        "missing ), unterminated subpattern at position 1; "
        "fix the pattern; put it in single quotes so that YAML keeps its backslashes",
    ),
    "rule kind without a rule": (
        GOOD + "    kind: rule\n",
        "6:5: kind is rule but rule is missing; add rule: with at least one check",
    ),
    "judged kind with a rule": (
        GOOD + "    rule: {max_words: 5}\n",
        "6:5: rule is given but kind is judged; add kind: rule, or remove the rule",
    ),
    "empty rule": (
        GOOD + "    kind: rule\n    rule: {}\n",
        "7:5: rule has no checks; add at least one of max_words, min_words, max_sentences, "
        "must_match, must_not_match, max_repeated_ngram, language, ends_complete",
    ),
    "impossible rule": (
        GOOD + "    kind: rule\n    rule: {min_words: 9, max_words: 5}\n",
        "7:5: min_words is greater than max_words, so no text can satisfy the rule; "
        "change one of them",
    ),
    "false where only true means something": (
        GOOD + "    kind: rule\n    rule: {ends_complete: false}\n",
        "7:12: rule.ends_complete: False is not allowed; write true, or leave it out",
    ),
    "zero sentences": (
        GOOD + "    kind: rule\n    rule: {max_sentences: 0}\n",
        "7:12: rule.max_sentences is 0; write 1 or more",
    ),
    "missing file": (
        GOOD + "extends: minimul.yaml\n",
        "6:1: extends 'minimul.yaml': not found, neither a file nor a shipped constitution; "
        "did you mean 'minimal'? shipped are concise, harmless, helpful, hhh, honest, minimal",
    ),
    "remove of an unknown id": (
        GOOD + "extends: minimal\nremove: [does-the-tusk]\n",
        "7:10: remove: no extended principle has the id 'does-the-tusk'; "
        "did you mean 'does-the-task'?",
    ),
    "remove without extends": (
        GOOD + "remove: [a]\n",
        "6:10: remove: no extended principle has the id 'a'; delete it from the list",
    ),
    "override of an unknown id": (
        GOOD + "  - {id: does-the-tusk, weight: 2}\nextends: minimal\n",
        "6:5: statement is missing, and no extended principle has the id 'does-the-tusk'; "
        "did you mean 'does-the-task'?",
    ),
    "itself in extends": (
        GOOD + "extends: [bad.yaml]\n",
        "6:11: extends is circular: bad.yaml → bad.yaml; remove one link",
    ),
    "no principles": (
        "name: n\nversion: v\nprinciples: []\n",
        "3:1: no principles; add one under principles:, or extend a constitution",
    ),
    "a list as the whole file": (
        "- a\n- b\n",
        "1:1: expected keys and values, found a list; start with name:",
    ),
    "a key given twice": (
        GOOD + "    id: b\n",
        "6:5: the key 'id' is given twice",
    ),
}


@pytest.mark.parametrize("case", ONE_MISTAKE)
def test_one_mistake_is_one_line_with_its_position(case: str, tmp_path: Path):
    text, expected = ONE_MISTAKE[case]
    assert problems(write(tmp_path, "bad.yaml", text)) == [expected]


def test_an_unknown_language_names_the_nearest(tmp_path: Path):
    text = GOOD + "    kind: rule\n    rule: {language: eng}\n"
    (line,) = problems(write(tmp_path, "bad.yaml", text))
    assert line == "7:12: rule.language: unknown language code eng; did you mean 'en'?"


def test_broken_yaml_says_where(tmp_path: Path):
    (line,) = problems(write(tmp_path, "bad.yaml", "name: n\nprinciples: [a\nversion: 1\n"))
    assert line.startswith("3:8: not valid YAML: ")


def test_an_empty_file_and_one_of_comments_only_are_empty(tmp_path: Path):
    assert problems(write(tmp_path, "bad.yaml", "")) == [" the file is empty"]
    assert problems(write(tmp_path, "bad.yaml", "# nothing yet\n")) == [" the file is empty"]


def test_a_file_that_is_not_utf_8_says_so(tmp_path: Path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    assert problems(path) == [" not UTF-8 text (byte 9 is 0xe9); save the file as UTF-8"]


def test_an_unreadable_extended_file_is_reported_where_it_is_named(tmp_path: Path):
    (tmp_path / "base.yaml").write_bytes(b"name: caf\xe9\n")
    (line,) = problems(write(tmp_path, "bad.yaml", GOOD + "extends: [base.yaml]\n"))
    assert line.startswith("6:11: extends 'base.yaml': ")
    assert line.endswith("not UTF-8 text (byte 9 is 0xe9); save the file as UTF-8")


def test_for_an_unknown_name_the_nearest_shipped_one_is_suggested(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert problems("hhhh") == [
        " not found: neither a file nor a shipped constitution; "
        "did you mean 'hhh'? shipped are concise, harmless, helpful, hhh, honest, minimal"
    ]
    assert "not found" in problems("constitution/hhh.yaml")[0]
    assert "is a folder" in problems(str(tmp_path))[0]
    assert len(problems("name: n\n" * 100)) == 1


def test_a_circle_of_three_names_its_links(tmp_path: Path):
    for name, target in (("one", "two"), ("two", "three"), ("three", "one")):
        write(tmp_path, f"{name}.yaml", f"name: {name}\nversion: v\nextends: {target}.yaml\n")
    (line,) = problems(tmp_path / "one.yaml")
    assert line == (
        f"{tmp_path}/three.yaml:3:1: extends is circular: "
        "one.yaml → two.yaml → three.yaml → one.yaml; remove one link"
    )


def test_a_file_that_extends_itself_for_a_shipped_one_of_its_name_is_told_how(tmp_path: Path):
    path = write(tmp_path, "hhh.yaml", "name: n\nversion: v\nextends: hhh.yaml\n")
    (line,) = problems(path)
    assert line.endswith("to extend the shipped constitution, write 'hhh'")


def test_all_mistakes_of_all_files_are_reported_together_in_order(tmp_path: Path):
    write(tmp_path, "base.yaml", GOOD + "    weight: heavy\n  - {id: b, statement: x, wrong: 1}\n")
    path = write(
        tmp_path,
        "bad.yaml",
        "name: n\nversion: 1\nextends: base.yaml\nremove: [zz]\nprinciples:\n"
        "  - {id: a, polarity: no}\n  - {id: a}\n",
    )
    base = f"{tmp_path}/base.yaml"
    assert [line.split(": ")[0] for line in problems(path)] == [
        "2:1",
        "4:10",
        "6:13",
        "7:6",
        f"{base}:6:5",
        f"{base}:7:27",
    ]


def test_a_mistake_in_a_field_that_is_overridden_is_still_reported(tmp_path: Path):
    write(tmp_path, "base.yaml", GOOD + "    weight: heavy\n")
    path = write(
        tmp_path,
        "bad.yaml",
        "name: n\nversion: v\nextends: base.yaml\nprinciples:\n  - {id: a, weight: 2}\n",
    )
    (line,) = problems(path)
    assert line.startswith(f"{tmp_path}/base.yaml:6:5: weight must be a number")


KEYS = st.sampled_from(
    [*ConstitutionFile.model_fields, *Principle.model_fields, *Rule.model_fields, "prompt", "x"]
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["a", "b", "minimal", "rule", "does-the-task", "("]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(KEYS, ANYTHING, max_size=4),
    st.lists(st.dictionaries(KEYS, ANYTHING, max_size=5) | ANYTHING, max_size=3),
)
@example({"principles": "a\n"}, [])
def test_any_data_loads_or_is_reported_as_a_constitution_error(head, principles):
    data = {"name": "n", "version": "v", "principles": principles, **head}
    try:
        loaded = constitution_from_mapping(data)
    except ConstitutionError as problem:
        lines = str(problem).splitlines()
        assert lines
        assert all(line.startswith("<constitution>: ") for line in lines)
    else:
        assert isinstance(loaded, Constitution)
