import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rlaif.cli.constitution import app
from rlaif.constitution import load_constitution
from rlaif.constitution.schema import render_schema
from rlaif.errors import ConstitutionError, RunError
from tests.constitution.factories import write

WARNED = "name: n\nversion: v\nprinciples:\n  - {id: a, statement: Be good.}\n"
WRONG = "name: n\nversion: v\nprinciples:\n  - {id: a, statment: Be good.}\n"


def run(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(argument) for argument in arguments])


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_lint_of_a_clean_constitution_prints_nothing_and_exits_0():
    result = run("lint", "hhh")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "hhh: no problems\n"


def test_lint_warns_with_exit_0_unless_strict(tmp_path: Path):
    path = write(tmp_path, "c.yaml", WARNED)
    result = run("lint", path)
    assert result.exit_code == 0
    first = result.stdout.splitlines()[0]
    assert first == (
        f"{path}:4:6: warning: comparison is missing; "
        "judges see only the statement: ask 'Which response ...?' [missing-comparison]"
    )
    assert result.stderr == f"{path}: 5 warnings, 2 notes\n"
    assert run("lint", path, "--strict").exit_code == 2


def test_notes_alone_do_not_fail_even_when_strict(tmp_path: Path):
    whole = WARNED.replace(
        "{id: a, statement: Be good.}",
        "{id: a, statement: Say where each number is from., critique_request: c, "
        "revision_request: r, comparison: Which response?}",
    )
    path = write(tmp_path, "c.yaml", whole)
    result = run("lint", path, "--strict")
    assert (result.exit_code, result.stderr) == (0, f"{path}: 2 notes\n")


def test_lint_of_a_wrong_file_exits_2_and_says_where(tmp_path: Path):
    path = write(tmp_path, "c.yaml", WRONG)
    result = run("lint", path)
    assert result.exit_code == 2
    assert f"{path}:4:13: error: unknown key 'statment'; did you mean 'statement'?" in result.stdout


def test_several_files_are_linted_at_once_and_the_worst_decides(tmp_path: Path):
    result = run("lint", "hhh", write(tmp_path, "c.yaml", WRONG), "minimal")
    assert result.exit_code == 2
    assert result.stderr == (
        f"hhh: no problems\n{tmp_path}/c.yaml: 2 errors\nminimal: no problems\n"
    )


def test_lint_takes_the_tags_of_the_prompts(tmp_path: Path):
    text = WARNED.replace("good.", "good., applies_to: [code]")
    path = write(tmp_path, "c.yaml", text)
    result = run("lint", path, "--prompt-tag", "chat", "--prompt-tag", "law")
    assert "no prompt has the tag 'code'; prompts have: chat, law" in result.stdout


def test_json_lint_is_one_object_per_line(tmp_path: Path):
    path = write(tmp_path, "c.yaml", WRONG)
    objects = lines(run("lint", path, "--json"))
    assert objects[1] == {
        "file": str(path),
        "line": 4,
        "column": 13,
        "severity": "error",
        "code": "unknown-key",
        "message": "unknown key 'statment'",
        "fix": "did you mean 'statement'?",
        "principle": "a",
    }


def test_show_prints_every_principle_with_its_origin():
    result = run("show", "hhh")
    hhh = load_constitution("hhh")
    assert result.exit_code == 0
    assert hhh.fingerprint in result.stdout
    assert "harmless.yaml" in result.stdout
    for principle in hhh.principles:
        assert principle.id.split("-")[0] in result.stdout


def test_show_says_which_prompts_a_principle_is_for_and_what_a_rule_checks(tmp_path: Path):
    path = write(
        tmp_path,
        "c.yaml",
        "name: n\nversion: v\nprinciples:\n  - id: a\n    statement: Answer in ten words.\n"
        "    kind: rule\n    rule: {max_words: 10}\n    applies_to: [chat]\n",
    )
    assert "(max_words 10)  (only for chat)" in run("show", path).stdout


def test_show_json_gives_the_constitution_then_its_principles(tmp_path: Path):
    path = write(
        tmp_path,
        "mine.yaml",
        "name: m\nversion: v\nextends: minimal\nprinciples: [{id: does-the-task, weight: 2}]\n",
    )
    head, *principles = lines(run("show", path, "--json"))
    loaded = load_constitution(path)
    assert head == {
        "type": "constitution",
        "name": "m",
        "version": "v",
        "description": "",
        "fingerprint": loaded.fingerprint,
        "principles": 3,
    }
    assert [each["id"] for each in principles] == [p.id for p in loaded.principles]
    origin = principles[0]["from"]
    assert isinstance(origin, dict)
    assert origin[str(path)] == ["id", "weight"]
    assert len(origin) == 2
    assert principles[0]["fingerprint"] == loaded.principles[0].fingerprint


def test_show_of_one_principle_prints_all_of_it():
    principle = load_constitution("concise").principle("no-lists")
    result = run("show", "concise", "no-lists")
    assert principle.examples[0].better[:30] in result.stdout
    assert "must_not_match" in result.stdout
    assert principle.fingerprint in result.stdout
    (only,) = lines(run("show", "concise", "no-lists", "--json"))
    assert only["id"] == "no-lists"


def test_show_of_an_unknown_principle_names_the_nearest():
    result = run("show", "hhh", "no-lectures")
    assert isinstance(result.exception, ConstitutionError)
    assert result.exception.hint == "did you mean 'no-lecturing'?"


@pytest.mark.parametrize("verb", [["show"], ["diff", "minimal"]])
def test_a_wrong_file_raises_every_problem(verb: list[str], tmp_path: Path):
    result = run(*verb, write(tmp_path, "c.yaml", WRONG))
    assert isinstance(result.exception, ConstitutionError)
    assert ":4:13: unknown key 'statment'" in str(result.exception)


def test_diff_prints_what_changed(tmp_path: Path):
    path = write(tmp_path, "mine.yaml", "name: m\nversion: v\nextends: hhh\nremove: no-padding\n")
    result = run("diff", "hhh", path)
    assert result.exit_code == 0
    assert "- no-padding: Do not add sentences that tell the person nothing new." in result.stdout
    assert result.stdout.splitlines()[-1] == "28 of 28 principles unchanged"
    (change,) = lines(run("diff", "hhh", path, "--json"))
    assert (change["kind"], change["principle"]) == ("removed", "no-padding")
    assert run("diff", "hhh", "hhh", "--json").stdout == ""


def edited(tmp_path: Path, field: str) -> str:
    """The only change between two versions of a principle with a comparison, as its note says."""
    words = dict.fromkeys(("statement", "comparison", "opposite"), "The old words.")
    paths = []
    for number, text in enumerate(("The old words.", "The new words.")):
        fields = "".join(
            f"\n    {name}: {text if name == field else old}" for name, old in words.items()
        )
        content = f"name: m\nversion: v\nprinciples:\n  - id: one{fields}\n"
        paths.append(write(tmp_path, f"{number}.yaml", content))
    shown = run("diff", *paths).stdout.splitlines()
    (change,) = lines(run("diff", *paths, "--json"))
    note = next(line.strip() for line in shown if line.startswith("    reaches"))
    reached = change["reaches"]
    assert isinstance(reached, list)
    assert note.startswith(f"reaches {', '.join(reached)}; not ")
    return note


def test_diff_says_which_prompts_show_an_edit(tmp_path: Path):
    statement = edited(tmp_path, "statement")
    assert statement.endswith(
        "; not judge/pairwise, judge/pairwise_cot, judge/pairwise_or_neither, judge/relevance"
    )
    assert "judge/rubric" in statement.partition("; not ")[0]
    assert edited(tmp_path, "comparison").startswith(
        "reaches judge/pairwise, judge/pairwise_cot, judge/pairwise_or_neither, judge/relevance; "
        "not judge/contrast"
    )
    assert edited(tmp_path, "opposite").startswith(
        "reaches judge/contrast, judge/salmon, sample/contrast; not"
    )


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        (
            "critique_request: Find a.",
            "critique_request: Find b.",
            "no judge prompt, only critique/",
        ),
        ("polarity: encourage", "polarity: avoid", "no judge prompt"),
        ("weight: 1.0", "weight: 2.0", None),
    ],
)
def test_diff_says_when_no_judge_is_shown_an_edit(
    old: str, new: str, note: str | None, tmp_path: Path
):
    head = "name: m\nversion: v\nprinciples:\n  - id: one\n    statement: Be brief.\n    "
    paths = [write(tmp_path, f"{n}.yaml", f"{head}{end}\n") for n, end in enumerate((old, new))]
    notes = [line for line in run("diff", *paths).stdout.splitlines() if "reaches" in line]
    assert len(notes) == (note is not None)
    assert all(line.strip().startswith(f"reaches {note}") for line in notes)


def test_schema_is_printed_or_written(tmp_path: Path):
    assert run("schema").stdout == render_schema()
    out = tmp_path / "s.json"
    result = run("schema", "--out", out)
    assert (result.exit_code, result.stdout) == (0, "")
    assert out.read_text(encoding="utf-8") == render_schema()
    failed = run("schema", "--out", tmp_path / "nowhere" / "s.json")
    assert isinstance(failed.exception, RunError)
