"""`scripts/house` counts what it says it counts."""

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import grimp
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "house"
PASSAGE = """
def {name}(rows):
    total = 0
    for row in rows:
        if row is None:
            continue
        total += {number}
        while total > 9:
            total -= 1
    with open("{name}") as file:
        file.write(str(total))
    assert total
    del rows
    return total
"""


@pytest.fixture(scope="module")
def house() -> Any:
    loader = SourceFileLoader("house", str(SCRIPT))
    spec = importlib.util.spec_from_loader("house", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def write(house: Any, path: Path, text: str) -> Any:
    path.write_text(text)
    return house.Source(path)


def test_a_passage_is_found_whatever_its_names_and_numbers(house, tmp_path):
    one = write(house, tmp_path / "one.py", PASSAGE.format(name="add", number=1))
    more = '"""Says."""\n\nimport os\n' + PASSAGE.format(name="sum_up", number=25)
    other = write(house, tmp_path / "other.py", more)
    (found,) = house.repeated([one, other])
    assert found == (13, (one.path, (2, 14)), (other.path, (5, 17)))


def test_tables_docstrings_and_imports_are_no_passages(house, tmp_path):
    table = "NAMES = [\n" + "".join(f'    "{i}",\n' for i in range(20)) + "]\n"
    words = '"""' + "\n".join(f"word {i}" * (i + 1) for i in range(20)) + '"""\n'
    imports = "".join(f"import a{i}.b{i}\n" for i in range(20))
    text = words + imports + table
    sources = [write(house, tmp_path / name, text) for name in ("one.py", "other.py")]
    assert house.repeated(sources) == []
    assert sources[0].kinds() == {"docstrings": 20, "imports": 20, "code": 22}


def test_boxes_are_modules_and_whole_subpackages(house):
    graph = grimp.ImportGraph()
    for one, other in [
        ("rlaif.room.a", "rlaif.room.part.x"),
        ("rlaif.room.a", "rlaif.room.part.y"),
        ("rlaif.room.part.x", "rlaif.room.part.y"),
        ("rlaif.room", "rlaif.room.a"),
        ("rlaif.room.a", "rlaif.other.b"),
        ("rlaif.other.b", "rlaif.other.c"),
        ("rlaif.other.c", "rlaif.other.b"),
    ]:
        graph.add_import(importer=one, imported=other)
    arrows = {room: len(pairs) for room, pairs in house.arrows(graph).items()}
    assert arrows == {"room": 2, "other": 2}
    assert house.circles(graph) == [["rlaif.other.b", "rlaif.other.c"]]
