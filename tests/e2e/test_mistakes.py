"""Mistakes of a user: one clear message, exit code 2, nothing written."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import rlaif, write_project

JUDGED = """\
name: own
version: "1"
principles:
  - id: kind
    statement: Be kind.
    comparison: Which response is kinder?
    critique_request: Find what is unkind.
    revision_request: Make it kind.
"""


def config(folder: Path, **changes: Any) -> None:
    write_project(folder, prompts=3, **changes)


def raw(text: str | bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        config(folder)
        (folder / "run.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())

    return write


def prompts(content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        config(folder)
        (folder / "prompts.jsonl").write_bytes(content)

    return write


def constitution(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        config(folder, constitution="own.yaml")
        (folder / "own.yaml").write_text(text)

    return write


def template(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        config(folder, templates="words")
        (folder / "words" / "judge").mkdir(parents=True)
        (folder / "words" / "judge" / "pairwise.j2").write_text(text)

    return write


def cyclic(folder: Path) -> None:
    config(folder, constitution="a.yaml")
    for one, other in (("a", "b"), ("b", "a")):
        text = JUDGED.replace("version", f"extends: {other}.yaml\nversion", 1)
        (folder / f"{one}.yaml").write_text(text)


def no_prompts(folder: Path) -> None:
    config(folder)
    (folder / "prompts.jsonl").unlink()


def changed(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: config(folder, **changes)


OPENAI = {"engine": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}

MISTAKES: dict[str, tuple[Callable[[Path], None], str]] = {
    "malformed YAML": (raw("name: [demo\n"), r"run\.yaml:\d+:\d+: not valid YAML"),
    "settings nested without end": (raw("name: " + "[" * 3000), "nested too deeply"),
    "empty settings": (raw(""), "the file is empty"),
    "settings in Latin-1": (raw("name: caf\xe9".encode("latin-1")), "not UTF-8"),
    "unknown key": (changed(seeed=1), "did you mean 'seed'"),
    "wrong type": (changed(concurrency="many"), "run.yaml:1:.*concurrency"),
    "no judge for judged principles": (changed(judges=[]), "need a judge"),
    "judge without anything to judge": (changed(constitution="concise"), "never be asked"),
    "unknown constitution": (changed(constitution="hhhh"), "hhhh"),
    "bad regular expression": (
        constitution(JUDGED + '  - {id: r, statement: x, kind: rule, rule: {must_match: "("}}\n'),
        r"own\.yaml:9:\d+.*(regular expression|pattern)",
    ),
    "constitutions that extend each other": (cyclic, r"a\.yaml.*b\.yaml"),
    "template with an undeclared variable": (
        template("{# variables: question #}\n--- user\n{{ question }} {{ anser }}\n"),
        "pairwise.j2:3.*anser",
    ),
    "empty prompt file": (prompts(b""), "prompts.jsonl: the file is empty"),
    "prompt file in UTF-16": (prompts('{"prompt": "x"}'.encode("utf-16")), "not UTF-8"),
    "prompt file without prompts": (prompts(b"{\n[\n"), "none of its 2 records"),
    "missing prompt file": (no_prompts, "prompts.jsonl: no such file"),
    "unknown engine": (changed(student={"engine": "transformer", "model": "x"}), "transformers"),
    "unknown scripted model": (
        changed(student={"engine": "scripted", "model": "ecko"}),
        "did you mean 'echo'",
    ),
    "unknown local model": (
        changed(student={"engine": "transformers", "model": "./no/such/model"}),
        "no/such/model",
    ),
    "missing key": (
        changed(student={**OPENAI, "api_key_env": "RLAIF_TEST_NO_SUCH_KEY"}),
        "RLAIF_TEST_NO_SUCH_KEY",
    ),
    "unknown engine option": (
        changed(student={"engine": "scripted", "model": "echo", "options": {"noize": 1}}),
        "did you mean 'noise'",
    ),
    "run to reuse that is none": (changed(reuse=["nothing"]), "nothing"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_words_and_writes_nothing(tmp_path: Path, mistake: str):
    write, words = MISTAKES[mistake]
    write(tmp_path)
    done = rlaif("generate", "run.yaml", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(words, done.stderr, re.DOTALL), done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "run").exists()


def test_an_unknown_verb_or_option_exits_with_2(tmp_path: Path):
    assert rlaif("generat", cwd=tmp_path).returncode == 2
    assert rlaif("generate", "run.yaml", "--nope", cwd=tmp_path).returncode == 2
    assert rlaif("status", "nothing", cwd=tmp_path).returncode == 2


def test_json_output_is_one_object_a_line_and_nothing_else(tmp_path: Path):
    config(tmp_path)
    done = rlaif("generate", "run.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["event"] == "done"
    assert events[-1]["rows"] == 3
    assert {event["event"] for event in events} == {"progress", "done"}


def test_a_server_that_is_not_there_stops_the_run_resumable(tmp_path: Path):
    options = {"max_attempts": 2, "connect_timeout_s": 0.5}
    config(tmp_path, student={**OPENAI, "options": options})
    done = rlaif("generate", "run.yaml", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
