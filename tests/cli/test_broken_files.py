"""Every verb with a file of settings, given files that nobody can use: words and exit code 2."""

from pathlib import Path

import pytest

from rlaif.cli.main import main

BROKEN: dict[str, bytes] = {
    "empty": b"",
    "latin-1": "name: caf\xe9".encode("latin-1"),
    "utf-16": "name: x".encode("utf-16"),
    "malformed": b"name: [x\n",
    "a list": b"- a\n",
    "a number": b"7\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "an unknown key": b"nmae: x\n",
    "wrong types": b"name: [1]\nseed: many\nout: {}\nmodel: 3\nprompts: 7\nconstitution: []\n",
    "a key twice": b"name: a\nname: b\n",
    "a tag": b"name: !!python/object/apply:os.system [x]\n",
    "a zero byte": b"name: a\x00b\n",
    "an alias to itself": b"a: &a [*a]\n",
    "a deep nest": b"a: " + b"[" * 3000 + b"]" * 3000,
    "keys that are no text": b"null: x\n? [a]\n: b\n",
}

FEW = ("empty", "latin-1", "malformed", "an unknown key")
"""What a verb is given that reads files as the first ones do."""

VERBS = (
    "generate",
    "constitution lint",
    "generate --dry-run",
    "evaluate",
    "loop",
    "audit --gold gold.jsonl",
    "train sft",
    "train reward",
    "train dpo",
    "train ppo",
    "train rloo",
    "train grpo",
    "constitution show",
    "constitution diff hhh",
    "constitution test",
)


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_that_cannot_be_used_is_said_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
):
    (tmp_path / "folder.yaml").mkdir()
    for name, content in BROKEN.items():
        (tmp_path / f"{name}.yaml").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for name in (*(BROKEN if verb in VERBS[:2] else FEW), "folder", "missing"):
        monkeypatch.setattr("sys.argv", ["rlaif", *verb.split(), f"{name}.yaml"])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        assert ended.value.code == 2, (name, shown)
        assert f"{name}.yaml" in shown.err + shown.out
        assert "Traceback" not in shown.err
        assert sorted(tmp_path.rglob("*")) == before, name
