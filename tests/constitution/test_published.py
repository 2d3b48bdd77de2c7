import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlaif.cli.main import app
from rlaif.constitution import load_constitution
from rlaif.constitution.lint import lint_constitution
from rlaif.constitution.published import as_yaml, read_published
from rlaif.errors import ConstitutionError

CRITIQUES = {
    "noise0": {
        "prompt": [
            "CritiqueRequest: Identify ways in which the assistant's last response is loud, "
            "boastful, or rude.\n\nCritique:"
        ],
        "edit_request": "RevisionRequest: Please rewrite the response to be quiet.\n\nRevision:",
    },
    "noise1": {
        "prompt": "Say what the assistant forgot to ask.\n\nCritique:",
        "edit_request": "Please add the missing question. Keep the rest.\n\nRevision:",
    },
}


def saved(folder: Path, content: object, name: str = "list.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_critiques_keep_their_requests_and_name_the_fault(tmp_path: Path):
    first, second = read_published(saved(tmp_path, CRITIQUES))
    assert first["statement"] == "Do not give a response that is loud, boastful, or rude."
    assert first["polarity"] == "avoid"
    assert first["comparison"] == "Which response is less loud, boastful, or rude?"
    assert first["critique_request"].startswith("Identify ways")
    assert first["critique_request"].endswith("rude.")
    assert first["revision_request"] == "Please rewrite the response to be quiet."
    assert second["statement"] == "Respond so that nobody would have to add the missing question."
    assert second["critique_request"] == "Say what the assistant forgot to ask."


@pytest.mark.parametrize(
    ("sentence", "comparison"),
    [
        ("Please choose the response that is most calm.", "Which response is most calm?"),
        (
            "Choose the assistant response which sounds least hurried. Options:",
            "Which response sounds least hurried?",
        ),
        (
            "Which of these responses from the AI assistant is less loud?\n\nOptions:",
            "Which response is less loud?",
        ),
        ("Which of these answers are shorter? Pick one.", "Which response is shorter?"),
    ],
)
def test_a_choice_becomes_its_question(tmp_path: Path, sentence: str, comparison: str):
    (entry,) = read_published(saved(tmp_path, [sentence]))
    assert entry["comparison"] == comparison
    rest = comparison.removeprefix("Which response ").rstrip("?")
    assert entry["statement"] == f"Give the response that {rest}."


@pytest.mark.parametrize(
    ("trait", "statement", "polarity"),
    [
        ("I am curious about my reader.", "Be curious about your reader.", "encourage"),
        ("I'm frank.", "Be frank.", "encourage"),
        ("I say what I know myself.", "Say what you know yourself.", "encourage"),
        ("I don’t flatter people who ask me.", "Do not flatter people who ask you.", "avoid"),
        ("I never hide my mistakes.", "Do not hide your mistakes.", "avoid"),
    ],
)
def test_a_trait_becomes_an_instruction(tmp_path, trait: str, statement: str, polarity: str):
    (entry,) = read_published(saved(tmp_path, [trait]))
    assert (entry["statement"], entry["polarity"]) == (statement, polarity)
    assert trait in entry["comparison"]


def test_a_text_file_is_a_list_with_or_without_bullets(tmp_path: Path):
    text = "# traits\n\n- I am calm.\n2) I listen to people.\n* I never shout.\n"
    entries = read_published(saved(tmp_path, text, "traits.txt"))
    assert [(entry["id"], entry["statement"]) for entry in entries] == [
        ("calm", "Be calm."),
        ("listen-people", "Listen to people."),
        ("do-not-shout", "Do not shout."),
    ]


def test_equal_statements_get_different_ids(tmp_path: Path):
    entries = read_published(saved(tmp_path, ["I am calm.", "I am calm."]))
    assert [entry["id"] for entry in entries] == ["calm", "calm-2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no principle found"),
        ({"a": {"prompt": ["x"]}}, "'a' has no prompt and edit_request"),
        ({"a": {"prompt": [1], "edit_request": "y"}}, "'a' has no prompt and edit_request"),
        (["The sky is blue.", "Grass is green."], "neither 'choose the response"),
        ([["I am calm."]], "entry 1 is not one sentence"),
        ("\x00", "neither"),
    ],
)
def test_what_is_no_such_list_is_one_clear_message(tmp_path: Path, content, message: str):
    with pytest.raises(ConstitutionError, match=message):
        read_published(saved(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    [
        CRITIQUES,
        ["Please choose the response that is most calm.", "Choose the response that asks more."],
        ["I am calm.", 'I don\'t flatter: "never".', "I say #1 what I think."],
    ],
)
def test_each_layout_becomes_a_file_that_loads_and_lints_without_errors(tmp_path: Path, content):
    entries = read_published(saved(tmp_path, content))
    out = tmp_path / "out.yaml"
    out.write_bytes(as_yaml("mine: a list", entries))
    constitution = load_constitution(out)
    assert [p.statement for p in constitution.principles] == [e["statement"] for e in entries]
    findings = {finding.code for finding in lint_constitution(out) if finding.severity == "error"}
    assert findings == set()
    assert "reversed-comparison" not in {finding.code for finding in lint_constitution(out)}


def test_the_command_writes_lints_and_does_not_overwrite(tmp_path: Path):
    source, out = saved(tmp_path, ["I am calm."], "calm.json"), tmp_path / "calm.yaml"
    first = CliRunner().invoke(app, ["constitution", "import", str(source), "--out", str(out)])
    assert first.exit_code == 0
    assert "1 principles" in first.output
    assert load_constitution(out).name == "calm"
    again = CliRunner().invoke(app, ["constitution", "import", str(source), "--out", str(out)])
    assert again.exit_code != 0
