from pathlib import Path

import pytest

from rlaif.errors import TemplateError
from rlaif.templates import TemplateSet

OWN = "{# variables: statement #}\n--- system\n{{ statement }}\n"


def write(folder: Path, name: str, source: str) -> Path:
    path = folder / f"{name}.j2"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    return path


def test_every_shipped_template_loads() -> None:
    names = [template.name for template in TemplateSet.open().check_all()]
    assert {"judge/pairwise", "judge/contrast", "critique/critique", "revise/revise"} <= set(names)


def test_a_projects_file_replaces_the_shipped_one_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "judge/contrast", OWN)
    shipped, own = TemplateSet.open(), TemplateSet.open(tmp_path)
    assert own.get("judge/contrast").path == path
    assert own.get("judge/pairwise") == shipped.get("judge/pairwise")
    changed = {n for n, f in own.fingerprints().items() if f != shipped.fingerprints()[n]}
    assert changed == {"judge/contrast"}


def test_a_file_that_replaces_nothing_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "judge/pairwse", "{# variables: #}\n--- user\nhi")
    with pytest.raises(TemplateError, match=r"no shipped template of this name.*'judge/pairwise'"):
        TemplateSet.open(tmp_path)


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="template folder not found"):
        TemplateSet.open(tmp_path / "nowhere")


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    write(tmp_path, "judge/pairwise", "{# variables: #}\n--- user\n{{ x }}")
    write(tmp_path, "revise/revise", "")
    with pytest.raises(TemplateError) as caught:
        TemplateSet.open(tmp_path).check_all()
    message = str(caught.value)
    assert "pairwise.j2:3: 'x' is used but not declared" in message
    assert "revise.j2: the template is empty" in message


@pytest.mark.parametrize("name", ["judge/pairwse", "../secrets", "", "judge"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(TemplateError, match="unknown template"):
        TemplateSet.open().get(name)
