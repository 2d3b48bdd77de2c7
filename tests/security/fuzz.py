"""Damaged and hostile files over all verbs: every end is a message, none a traceback or a hang.

    .venv/bin/python -m tests.security.fuzz 2000          as many mutated files, from seed 0
    .venv/bin/python -m tests.security.fuzz 2000 7        another seed
    .venv/bin/python -m tests.security.fuzz 1 0 123       the one case that was said to fall

A case copies a small project with a finished run, damages one file, and calls the verbs that read
it, in this process and on the scripted engine.
"""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rlaif.cli.main import main as rlaif_main
from rlaif.config import load_config
from rlaif.config.evaluate import LoopConfig
from rlaif.config.online import GrpoConfig, RlooConfig
from rlaif.config.ppo import PpoConfig
from rlaif.config.reward import ServeRewardConfig
from rlaif.config.train import DpoConfig, RewardConfig, SftConfig
from rlaif.errors import RlaifError
from tests.e2e.project import write_project

LONGEST_S = 60
CODES = {0, 1, 2, 3, 4, 5}

Mutation = Callable[[random.Random, bytes], bytes]

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    2**64,
    -(2**70),
    10**400,
    1e308,
    -1e-320,
    "",
    "x" * 300,
    "x" * 5000,
    "a\0b",
    "../../etc",
    "/",
    "~",
    "\x1b[2J",
    "\u202e",
    "s3://",
    "file:///x\0",
    "true",
    "1e999",
    "{{ 7 }}",
    "(",
    "(?:a+)+",
    [],
    [[]],
    [None],
    ["x", 1],
    {},
    {"": ""},
    {"a\0": 1},
    [[[[[[[[1]]]]]]]],
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _places(item, (*path, key))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _places(item, (*path, place))


def _change(dice: random.Random, value: Any) -> Any:
    """Replace, remove, repeat or rename something in a JSON value."""
    path = dice.choice(list(_places(value)))
    if not path:
        return dice.choice(ODD)
    parent = value
    for step in path[:-1]:
        parent = parent[step]
    last = path[-1]
    match dice.randrange(8):
        case 0:
            del parent[last]
        case 1 if isinstance(parent, dict):
            parent[dice.choice(["", "x" * 300, "a\0b", "\x1b", str(last).upper()])] = parent[last]
        case 2 if isinstance(parent, list):
            parent.extend([parent[last]] * dice.choice([1, 2, 50]))
        case _:
            parent[last] = dice.choice(ODD)
    return value


def structured(dice: random.Random, data: bytes) -> bytes:
    """Change one to three places of a JSON file, or of one line of a file of lines."""
    lines = data.decode().splitlines()
    at = None
    try:
        value = json.loads(data)
    except ValueError:
        at = dice.randrange(len(lines))
        value = json.loads(lines[at])
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        value = _change(dice, value)
    text = json.dumps(value, ensure_ascii=dice.random() < 0.5)
    if at is None:
        return text.encode("utf-8", "surrogatepass")
    lines[at] = text
    return "\n".join([*lines, ""]).encode("utf-8", "surrogatepass")


def raw(dice: random.Random, data: bytes) -> bytes:
    """Cut, flip, insert or replace bytes."""
    at = dice.randrange(len(data) + 1)
    match dice.randrange(9):
        case 0:
            return data[:at]
        case 1:
            return b""
        case 2:
            return data[:at] + dice.randbytes(dice.choice([1, 4, 400])) + data[at:]
        case 3:
            return data[:at] + dice.choice([b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r"]) + data[at:]
        case 4:
            return data[:at] + b"[" * 5000 + data[at:]
        case 5:
            return data[:at] + data[min(len(data), at + dice.choice([1, 8, 100])) :]
        case 6:
            return dice.randbytes(len(data))
        case _:
            changed = bytearray(data)
            for _ in range(dice.choice([1, 3, 30])):
                if changed:
                    changed[dice.randrange(len(changed))] = dice.randrange(256)
            return bytes(changed)


def _check(schema: Any) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        with contextlib.suppress(RlaifError):
            load_config(schema, path)

    return check


GENERATE = ("generate run.yaml --dry-run", "generate run.yaml")
READ = (
    "status run",
    "status run --verify --json",
    "export run --out exported",
    "export run --out prompts --what prompts --to trl",
    "constitution explain run",
    "reparse run --out again",
    "relabel run --constitution wishes.yaml --out relabelled",
    "generate run.yaml --set out=run",
)
CONSTITUTION = (
    "constitution lint wishes.yaml",
    "constitution show wishes.yaml --json",
    "constitution show wishes.yaml",
    "constitution diff wishes.yaml hhh",
    "constitution test wishes.yaml --judge audit.yaml --out tested",
    "generate run.yaml",
)

TARGETS: dict[str, tuple[str | Callable[[Path], None], ...]] = {
    "run.yaml": GENERATE,
    "prompts.jsonl": ("generate run.yaml",),
    "wishes.yaml": CONSTITUTION,
    "audit.yaml": ("audit audit.yaml --gold gold.jsonl",),
    "gold.jsonl": ("audit audit.yaml --gold gold.jsonl",),
    "votes.json": ("constitution import-votes votes.json --gold new.jsonl",),
    "evaluate.yaml": ("evaluate evaluate.yaml",),
    "sft.yaml": (_check(SftConfig),),
    "dpo.yaml": (_check(DpoConfig), _check(RewardConfig)),
    "ppo.yaml": (_check(PpoConfig), _check(RlooConfig), _check(GrpoConfig)),
    "loop.yaml": (_check(LoopConfig),),
    "serve.yaml": (_check(ServeRewardConfig),),
    "run/manifest.json": READ,
    "run/failures.jsonl": READ,
    "run/log.jsonl": READ,
    "run/ledger.sqlite": READ,
    "run/shards": READ,
}
"""What is damaged, and who reads it."""


@dataclass(frozen=True, slots=True)
class Fall:
    """A case that ended in something other than a message."""

    case: int
    target: str
    verb: str
    why: str


def write_whole_project(folder: Path) -> None:
    """A project with every kind of file and a finished run, all of it JSON where YAML would do."""
    write_project(folder, prompts=4, constitution="wishes.yaml", shard_rows=2)
    with (folder / "prompts.jsonl").open("a") as prompts:
        prompts.write('{"prompt": 7}\n')
    example = {"prompt": "Why?", "better": "So.", "worse": "No!"}
    wishes = {
        "name": "wishes",
        "version": "1.0.0",
        "description": "Two.",
        "principles": [
            {
                "id": "kind",
                "statement": "Be kind to the reader in every sentence.",
                "weight": 2.0,
                "tags": ["form"],
                "examples": [example],
            },
            {
                "id": "short",
                "kind": "rule",
                "statement": "Keep it short.",
                "rule": {"max_words": 50, "must_not_match": "!", "max_sentences": 3},
            },
        ],
    }
    judge = {"name": "main", "engine": "scripted", "model": "judge-random"}
    models = [{"name": name, "engine": "scripted", "model": "echo"} for name in ("a", "b")]
    reward = {
        "judged": {"judges": [{**judge, "method": "pointwise"}], "constitution": "hhh", "out": "w"}
    }
    files: dict[str, Any] = {
        "wishes.yaml": wishes,
        "audit.yaml": {"judges": [judge], "out": "audited", "constitution": "wishes.yaml"},
        "evaluate.yaml": {
            "name": "e",
            "prompts": {"path": "prompts.jsonl", "limit": 3},
            "constitution": "wishes.yaml",
            "models": models,
            "baseline": "a",
            "sampling": {"n": 1, "max_tokens": 8},
            "out": "evaluated",
        },
        "sft.yaml": {"model": "m", "data": "d", "out": "o", "epochs": 1.0, "seed": 3},
        "dpo.yaml": {"model": "m", "data": "d", "out": "o", "learning_rate": 1e-5, "seed": 3},
        "ppo.yaml": {"model": "m", "prompts": {"path": "p"}, "reward": reward, "out": "o"},
        "loop.yaml": {
            "name": "l",
            "run": "run.yaml",
            "train": "dpo.yaml",
            "evaluate": "evaluate.yaml",
            "out": "l",
        },
        "serve.yaml": {"reward": [{**reward, "weight": 1.0}], "port": 0, "unscored": -1.0},
        "votes.json": {
            "metadata": {"version": "2.0"},
            "annotators": {"p": {"name": "p", "type": "principle", "description": "Be kind."}},
            "comparisons": [
                {
                    "id": "1",
                    "prompt": "Why?",
                    "response_a": {"text": "x"},
                    "response_b": {"text": "y"},
                    "annotations": {"p": {"pref": "a"}},
                }
            ],
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    gold = {"prompt": "Why?", "response_a": "So.", "response_b": "Because of it.", "label": "a"}
    lines = [json.dumps({**gold, "id": str(number)}) for number in range(6)]
    (folder / "gold.jsonl").write_text("\n".join(lines) + "\n")
    with _inside(folder):
        code, said = call("generate run.yaml")
    assert code == 0, said


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def call(words: str) -> tuple[int, str]:
    """Run a command line in this process; its exit code and what it printed."""
    written = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    kept = sys.argv, sys.excepthook
    sys.argv = ["rlaif", *words.split()]
    try:
        with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
            rlaif_main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    else:
        code = 0
    finally:
        sys.argv, sys.excepthook = kept
    return code, written.buffer.getvalue().decode()


def _hangs(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"no end after {LONGEST_S} seconds")


def run_case(seed: int, case: int, whole: Path, place: Path) -> list[Fall]:
    """Damage one file of a copy and let everybody read it."""
    dice = random.Random(f"{seed}/{case}")
    target = dice.choice(list(TARGETS))
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place)
    path = place / target
    if path.is_dir():
        path = dice.choice(sorted(path.iterdir()))
    binary = path.suffix not in (".json", ".jsonl", ".yaml")
    mutate: Mutation = raw if binary or dice.random() < 0.25 else structured
    path.write_bytes(mutate(dice, path.read_bytes()))
    if not target.startswith("run/"):
        shutil.rmtree(place / "run")
    falls = []
    with _inside(place):
        for verb in TARGETS[target]:
            signal.alarm(LONGEST_S)
            try:
                if callable(verb):
                    verb(path)
                    continue
                code, said = call(verb)
                if code not in CODES:
                    falls.append(Fall(case, target, verb, f"exit code {code}: {said}"))
                if "Traceback" in said:
                    falls.append(Fall(case, target, verb, said))
            except BaseException:  # noqa: BLE001 - whatever comes out is what is looked for
                falls.append(Fall(case, target, str(verb), traceback.format_exc()))
            finally:
                signal.alarm(0)
    return falls


def fuzz(seed: int, cases: range) -> Iterator[Fall]:
    """Run cases and yield what fell, each the same whatever others are run."""
    signal.signal(signal.SIGALRM, _hangs)
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        write_whole_project(whole)
        for case in cases:
            yield from run_case(seed, case, whole, Path(name) / "damaged")


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:]]
    count, seed, first = (*numbers, *(2000, 0, 0)[len(numbers) :])
    falls = 0
    for fall in fuzz(seed, range(first, first + count)):
        falls += 1
        last = "\n".join(fall.why.strip().splitlines()[-12:])
        print(f"== case {fall.case}: {fall.target}, {fall.verb}\n{last}", flush=True)  # noqa: T201
    print(f"{count} mutated files, {falls} falls")  # noqa: T201
    sys.exit(bool(falls))


if __name__ == "__main__":
    main()
