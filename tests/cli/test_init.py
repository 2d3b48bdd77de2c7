"""What `rlaif init` writes loads with the real loaders, and nothing of the user's is touched."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rlaif.cli.init import init, write_project
from rlaif.config import RunConfig, load_config
from rlaif.config.evaluate import EvaluateConfig
from rlaif.config.train import DpoConfig
from rlaif.constitution import check_rule, load_constitution
from rlaif.constitution.lint import lint_constitution
from rlaif.errors import InputError, RunError
from rlaif.evaluation import evaluate
from rlaif.inputs import PromptSource, read_prompts
from rlaif.pipeline import generate
from rlaif.records import Prompt
from rlaif.templates import TemplateSet

NAMES = {
    "README.md",
    "constitution.yaml",
    "eval.yaml",
    "heldout.jsonl",
    "prompts.jsonl",
    "prompts/README.md",
    "run.yaml",
    "train.yaml",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path / "deep" / "project")
    return tmp_path / "deep" / "project"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_file_is_written_and_nothing_else(project: Path) -> None:
    assert files(project) == NAMES


def test_the_constitution_loads_extends_a_shipped_one_and_adds_a_principle_and_a_rule(
    project: Path,
) -> None:
    own = load_constitution(project / "constitution.yaml")
    shipped = load_constitution("concise")
    added = [p for p in own.principles if p.id not in {q.id for q in shipped.principles}]
    assert [p.kind for p in added] == ["judged", "rule"]
    assert set(shipped.principles) < set(own.principles)


def test_lint_finds_nothing_to_mend(project: Path) -> None:
    assert [f.message for f in lint_constitution(str(project / "constitution.yaml"))] == []


def test_its_own_rule_tells_its_examples_apart(project: Path) -> None:
    principle = load_constitution(project / "constitution.yaml").principle("no-exclamation-marks")
    assert principle.rule is not None
    for example in principle.examples:
        assert check_rule(principle.rule, example.better)
        assert not check_rule(principle.rule, example.worse)


def test_the_run_file_loads_with_paths_of_the_project(project: Path) -> None:
    run = load_config(RunConfig, project / "run.yaml")
    assert run.prompts.path == str(project / "prompts.jsonl")
    assert run.constitution == str(project / "constitution.yaml")
    assert run.out == project / "runs" / "first"
    assert [judge.method for judge in run.judges] == ["contrast"]


def test_the_training_file_takes_what_the_run_exports(project: Path) -> None:
    train = load_config(DpoConfig, project / "train.yaml")
    assert train.data == "data/first"
    assert train.out == project / "checkpoints" / "first"
    assert train.model == load_config(RunConfig, project / "run.yaml").student.model


def test_the_evaluation_file_compares_the_policy_with_what_it_started_from(project: Path) -> None:
    evaluation = load_config(EvaluateConfig, project / "eval.yaml")
    run = load_config(RunConfig, project / "run.yaml")
    assert {model.name: model.model for model in evaluation.models} == {
        "base": run.student.model,
        "policy": "checkpoints/first",
    }
    assert evaluation.likelihood_model == "base"
    assert evaluation.prompts.path == str(project / "heldout.jsonl")


@pytest.mark.parametrize(("name", "count"), [("prompts.jsonl", 24), ("heldout.jsonl", 12)])
def test_the_prompts_are_read_without_a_failure(project: Path, name: str, count: int) -> None:
    source = PromptSource(path=project / name, id_column="id", tags_column="tags")
    read = list(read_prompts(source))
    assert len(read) == count
    assert all(isinstance(item, Prompt) for item in read)


def test_no_held_out_prompt_is_trained_on(project: Path) -> None:
    train, heldout = (
        set((project / name).read_text(encoding="utf-8").splitlines())
        for name in ("prompts.jsonl", "heldout.jsonl")
    )
    assert not train & heldout


def test_the_empty_template_folder_overrides_nothing(project: Path) -> None:
    assert TemplateSet.open(project / "prompts").fingerprints() == TemplateSet.open().fingerprints()


def test_the_readme_names_every_file(project: Path) -> None:
    readme = (project / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES - {"README.md", "prompts/README.md"} if name not in readme] == []


def test_a_file_that_is_there_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("mine", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"already holds run\.yaml") as caught:
        write_project(tmp_path)
    assert caught.value.exit_code == 2
    assert files(tmp_path) == {"run.yaml", "notes.txt"}
    assert (tmp_path / "run.yaml").read_text(encoding="utf-8") == "mine"


def test_other_files_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    write_project(tmp_path)
    assert files(tmp_path) == NAMES | {"notes.txt"}


@pytest.mark.parametrize("name", ["project", "project/prompts"])
def test_a_file_where_a_folder_must_be_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError):
        write_project(tmp_path / "project")
    assert files(tmp_path) == {name}


def test_a_write_that_fails_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fails_at_last(self: Path, target: Path) -> Path:
        if target.name == "run.yaml":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_at_last)
    with pytest.raises(RunError, match="No space left"):
        write_project(tmp_path / "new" / "project")
    assert list(tmp_path.iterdir()) == []


def test_the_command_names_what_it_wrote_and_what_comes_next(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(init)
    result = CliRunner().invoke(app, [str(tmp_path / "project")])
    assert result.exit_code == 0
    assert "run.yaml" in result.stdout
    assert "rlaif generate run.yaml" in result.stdout


def test_the_project_runs_from_prompts_to_pairs_to_scorecard(project: Path) -> None:
    """With scripted models in the place of real ones; everything around them is as written."""
    run = generate(
        project / "run.yaml",
        overrides={"student.engine": "scripted", "student.model": "echo"},
    )
    status = run.status()
    assert status.rows == 24
    assert list(run.pairs())
    models = [
        {"name": "base", "engine": "scripted", "model": "echo"},
        {"name": "policy", "engine": "scripted", "model": "judge-random"},
    ]
    card = evaluate(project / "eval.yaml", overrides={"models": models})
    assert card.slices == {"all": 12, "helpful": 8, "red-team": 2, "borderline": 2}
    assert card.estimate("policy", "rules/no-exclamation-marks").n == 12
    assert card.estimate("policy", "likelihood").estimate is not None
