from pathlib import Path

import pytest

from rlaif.constitution.lint import lint_constitution
from tests.constitution.factories import SHIPPED, write

HEAD = "name: n\nversion: v\nprinciples:\n"
WHOLE = """\
    critique_request: Point out each fault.
    revision_request: Rewrite it without the fault.
    comparison: Which response has fewer faults?
    opposite: Make faults everywhere.
    examples: [{prompt: p, better: b, worse: w}]
"""


def entry(id: str, statement: str, rest: str = "") -> str:
    return f"  - id: {id}\n    statement: {statement}\n{rest}{WHOLE}"


def lint(tmp_path: Path, text: str, **options: list[str]) -> list[tuple[str, str, str]]:
    """Position, severity and code of each finding."""
    path = write(tmp_path, "c.yaml", HEAD + text)
    findings = lint_constitution(path, prompt_tags=options.get("prompt_tags"))
    return [(f"{f.line}:{f.column}", f.severity, f.code) for f in findings]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_constitutions_have_no_findings(name: str):
    assert lint_constitution(name) == ()


def test_a_complete_principle_has_no_findings(tmp_path: Path):
    assert lint(tmp_path, entry("a", "Say where each number comes from.")) == []


def test_missing_parts_are_reported_at_the_principle(tmp_path: Path):
    text = "  - id: a\n    statement: Say where each number comes from.\n"
    assert lint(tmp_path, text) == [
        ("4:5", "warning", "missing-comparison"),
        ("4:5", "warning", "missing-critique-request"),
        ("4:5", "info", "missing-examples"),
        ("4:5", "info", "missing-opposite"),
        ("4:5", "warning", "missing-revision-request"),
    ]


def test_rule_principles_need_no_requests(tmp_path: Path):
    text = (
        "  - id: a\n    statement: Answer in at most three words.\n    kind: rule\n"
        "    rule: {max_words: 3}\n"
        "    examples: [{prompt: p, better: a b c, worse: a b c d}]\n"
    )
    assert lint(tmp_path, text) == []


def test_repeated_statements_are_reported_at_the_later_one(tmp_path: Path):
    text = (
        entry("a", "Say where each number comes from.")
        + entry("b", "say where each number comes from")
        + entry("c", "Say where every number comes from.")
    )
    assert lint(tmp_path, text) == [
        ("12:5", "warning", "duplicate-statement"),
        ("19:5", "warning", "near-duplicate"),
        ("19:5", "warning", "near-duplicate"),
    ]
    (first, *_) = lint_constitution(tmp_path / "c.yaml")
    assert first.message == f"the same words as 'a' at {tmp_path}/c.yaml:5:5"
    assert first.principle == "b"


def test_wording_is_warned_about_at_the_statement(tmp_path: Path):
    text = entry("a", "Be good.") + entry("b", "Answer the question and cite the source.")
    assert lint(tmp_path, text) == [
        ("5:5", "warning", "too-short"),
        ("5:5", "warning", "vague"),
        ("12:5", "warning", "double-barrelled"),
    ]


def test_a_comparison_must_be_a_question(tmp_path: Path):
    text = entry("a", "Say where each number comes from.").replace("faults?", "faults")
    assert lint(tmp_path, text) == [("8:5", "warning", "comparison-not-a-question")]


def test_polarity_must_fit_the_statement(tmp_path: Path):
    text = entry("a", "Do not make up any number.") + entry(
        "b", "Say where a claim comes from.", "    polarity: avoid\n"
    )
    assert lint(tmp_path, text) == [
        ("4:5", "warning", "polarity-mismatch"),
        ("13:5", "warning", "polarity-mismatch"),
    ]


STATEMENTS = (
    "Say where each number comes from.",
    "Warn about steps which could injure.",
    "Answer in German when asked in German.",
    "Use metric units for every length.",
    "Name the law a claim rests upon.",
)


def test_prohibitions_or_wishes_alone_are_out_of_balance(tmp_path: Path):
    three = "".join(entry(f"p{i}", STATEMENTS[i]) for i in range(3))
    assert lint(tmp_path, three) == []
    assert lint(tmp_path, three + entry("p3", STATEMENTS[3])) == [
        ("3:1", "warning", "polarity-imbalance")
    ]
    mixed = three + entry("no", "Never make up a source.", "    polarity: avoid\n")
    assert lint(tmp_path, mixed) == []


def test_tags_used_once_or_misspelt_are_reported(tmp_path: Path):
    tags = ("[safe, tone]", "[safe]", "[saffe]")
    text = "".join(entry(f"p{i}", STATEMENTS[i], f"    tags: {tags[i]}\n") for i in range(3))
    assert lint(tmp_path, text) == [
        ("6:18", "info", "unused-tag"),
        ("22:12", "warning", "misspelt-tag"),
    ]


def test_tags_that_group_nothing_anywhere_are_left_alone(tmp_path: Path):
    text = "".join(entry(f"p{i}", STATEMENTS[i], f"    tags: [t{i}x]\n") for i in range(3))
    assert lint(tmp_path, text) == []


def test_a_misspelt_prompt_tag_is_reported(tmp_path: Path):
    tags = ("[red-team]", "[red-team]", "[redteam]")
    text = "".join(entry(f"p{i}", STATEMENTS[i], f"    applies_to: {tags[i]}\n") for i in range(3))
    assert lint(tmp_path, text) == [("22:18", "warning", "misspelt-tag")]


def test_applies_to_is_checked_against_the_tags_of_the_prompts(tmp_path: Path):
    text = entry("a", STATEMENTS[0], "    applies_to: [code, law]\n")
    assert lint(tmp_path, text, prompt_tags=["code"]) == [
        ("6:24", "warning", "unmatched-applies-to")
    ]
    assert lint(tmp_path, text, prompt_tags=["code", "law", "chat"]) == [
        ("3:1", "warning", "unused-prompt-tag")
    ]
    assert lint(tmp_path, text + entry("b", STATEMENTS[1]), prompt_tags=["code", "law", "x"]) == [
        ("3:1", "info", "unused-prompt-tag")
    ]
    assert lint(tmp_path, text) == []


def test_weight_zero_is_reported(tmp_path: Path):
    assert lint(tmp_path, entry("a", STATEMENTS[0], "    weight: 0\n")) == [
        ("6:5", "warning", "zero-weight")
    ]


def test_an_example_with_equal_responses_is_an_error(tmp_path: Path):
    text = entry("a", STATEMENTS[0]).replace("worse: w", "worse: b")
    assert lint(tmp_path, text) == [("10:16", "error", "example-tie")]


def test_examples_that_contradict_their_rule_are_errors(tmp_path: Path):
    text = (
        "  - id: a\n    statement: Answer in at most three words.\n    kind: rule\n"
        "    rule: {max_words: 3}\n"
        "    examples:\n"
        "      - {prompt: p, better: a b c d, worse: a b c}\n"
    )
    path = write(tmp_path, "c.yaml", HEAD + text)
    better, worse = lint_constitution(path)
    assert (better.line, better.column, better.severity) == (9, 21, "error")
    assert (
        better.message == "better does not satisfy the rule (max_words: 4 words, at most 3 allowed)"
    )
    assert (worse.line, worse.column) == (9, 38)
    assert worse.message == "worse satisfies the rule, too"


def test_a_pattern_of_exponential_time_is_reported(tmp_path: Path):
    text = (
        "  - id: a\n    statement: End with a listed word.\n    kind: rule\n"
        "    rule: {must_match: '(\\w+\\s*)+$'}\n"
        "    examples: [{prompt: p, better: a, worse: '.'}]\n"
    )
    assert lint(tmp_path, text) == [("7:12", "warning", "slow-pattern")]


def test_inherited_words_are_reported_in_the_file_they_come_from(tmp_path: Path):
    base = write(tmp_path, "base.yaml", HEAD + entry("a", "Be good to people everywhere."))
    path = write(
        tmp_path,
        "mine.yaml",
        "name: m\nversion: v\nextends: base.yaml\nprinciples:\n  - {id: a, weight: 0}\n",
    )
    own, inherited = lint_constitution(path)
    assert (own.where, own.code) == (f"{path}:5:13", "zero-weight")
    assert (inherited.where, inherited.code) == (f"{base}:5:5", "vague")


def test_a_file_that_does_not_load_gives_its_errors(tmp_path: Path):
    findings = lint_constitution(write(tmp_path, "c.yaml", "name: n\nprinciples: [a]\n"))
    assert {f.severity for f in findings} == {"error"}
    assert [f.code for f in findings] == ["missing-key", "wrong-type"]
    (broken,) = lint_constitution(write(tmp_path, "d.yaml", "name: [\n"))
    assert (broken.line, broken.column, broken.code) == (2, 1, "unreadable-file")
    (missing,) = lint_constitution(tmp_path / "e.yaml")
    assert (missing.line, missing.code) == (0, "missing-file")
    assert str(missing).startswith(f"{tmp_path}/e.yaml: not found")
