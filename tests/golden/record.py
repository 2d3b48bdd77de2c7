"""Record what today's code does: ``python -m tests.golden.record``, from the repository's root.

Do this only when data are meant to change, and say so under *Data* in CHANGELOG.md. The run of an
earlier version, ``recorded/old``, stays as it is unless ``--old`` is given, which only a changed
word in ``prompts/`` is a reason for: that it still answers every call is what it is for.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import rlaif
from tests.golden.cases import DATA, HERE, LABELS, every_method, generate
from tests.golden.facts import arithmetic, row_facts
from tests.golden.inside import golden_engine

RECORDED = HERE / "recorded"


def load(name: str) -> dict[str, Any]:
    """Read one file of recordings."""
    found: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text("utf-8"))
    return found


def _record(name: str, cases: Mapping[str, Callable[[Path], Any]]) -> None:
    found = {}
    for case, make in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            found[case] = make(Path(folder))
    _write(name, {"arithmetic": arithmetic(), "cases": found})


def _record_old() -> None:
    shutil.rmtree(RECORDED / "old", ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder, golden_engine():
        made = Path(folder) / "every"
        rlaif.generate(every_method(Path(folder)))
        for name in ("ledger.sqlite", "manifest.json", "shards"):
            kept = RECORDED / "old" / name
            kept.parent.mkdir(exist_ok=True)
            copy = shutil.copytree if (made / name).is_dir() else shutil.copy
            copy(made / name, kept)
        # The settings name files of a folder that is gone; names alone do as well.
        manifest = RECORDED / "old" / "manifest.json"
        manifest.write_text(manifest.read_text("utf-8").replace(f"{Path(folder).resolve()}/", ""))
        calls = sum(one.calls for one in rlaif.open_run(made).status().calls)
        _write("old", {"arithmetic": arithmetic(), "calls": calls, "rows": row_facts(made)})


def _write(name: str, value: Any) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    (RECORDED / f"{name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    _record("labels", {case: partial(generate, changes=it) for case, it in LABELS.items()})
    _record("data", DATA)
    if "--old" in sys.argv[1:]:
        _record_old()
