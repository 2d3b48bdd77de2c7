"""One session: what is opened once, when something is written, and how it all ends."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import rlaif
from rlaif.auditing import audit_judge
from rlaif.config import load_config
from rlaif.config.judge import JudgeConfig
from rlaif.config.run import EngineConfig, StudentConfig
from rlaif.engines import Engine, Generate, Reply, Sampling
from rlaif.engines.scripted import ScriptedEngine
from rlaif.errors import EngineMissing, InputError, RunLocked
from rlaif.judging import build_configured_judge
from rlaif.runs import Ledger
from rlaif.sessions import session as sessions
from rlaif.sessions.concurrent import Interrupted
from rlaif.sessions.engines import open_configured
from rlaif.sessions.session import OpenedJudge, Session
from tests.auditing.planted import write_gold

HELLO = Generate(({"role": "user", "content": "hello"},), Sampling(), (1,), purpose="sample")
STUDENT = load_config(StudentConfig, {"engine": "scripted", "model": "echo"})


class Closing(ScriptedEngine):
    """Counts how often it was closed."""

    def __init__(self) -> None:
        super().__init__(lambda *_: Reply("yes"))
        self.closed = 0

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Closing]:
    """Every engine that a session opens from settings."""
    engines: list[Closing] = []

    def open_closing(config: EngineConfig | JudgeConfig) -> Engine:
        open_configured(config)  # its errors are part of it
        engines.append(Closing())
        return engines[-1]

    monkeypatch.setattr(sessions, "open_configured", open_closing)
    return engines


def judge(name: str, **more: Any) -> JudgeConfig:
    settings = {"name": name, "engine": "scripted", "model": "judge-random", **more}
    return load_config(JudgeConfig, settings)


def build(session: Session, *configs: JudgeConfig, **more: Any) -> Sequence[OpenedJudge]:
    return session.judges(configs, asked=1, orders="both", min_mass=0.0, principles=(), **more)


async def test_roles_with_the_same_model_share_one_engine_and_one_recorder(
    opened: list[Closing], tmp_path: Path
):
    async with Session() as session:
        student = session.engine(STUDENT, "student")
        two = build(session, judge("a"), judge("b"))
        itself = build(session, judge("me", engine=None, model="same-as-student"), student=STUDENT)
        assert two[0].engine is two[1].engine
        assert itself[0].engine is student
        assert session.engine(STUDENT, "student") is student
        session.open(tmp_path / "out")
        assert len(opened) == len(session.recorded) == 2
        assert [engine.label for engine in session.engines.values()] == [
            "student",
            "judge:a+judge:b",
            "judge:a+judge:b",
            "student",
        ]
    assert [engine.closed for engine in opened] == [1, 1]


async def test_nothing_is_written_or_asked_before_the_session_is_open(
    opened: list[Closing], tmp_path: Path
):
    async with Session() as session:
        student = session.engine(STUDENT, "student")
        with pytest.raises(RuntimeError, match="student was asked before"):
            await student.ask(HELLO)
        with pytest.raises(InputError):
            session.open(tmp_path / "out", reuse=[tmp_path / "none"])
        assert list(tmp_path.iterdir()) == []


async def test_a_reply_is_in_the_ledger_and_the_folder_is_locked_until_the_end(
    opened: list[Closing], tmp_path: Path
):
    async with Session() as session:
        student = session.engine(STUDENT, "student")
        session.open(tmp_path)
        assert (await student.ask(HELLO))[0].text == "yes"
        assert student.identity is session.recorded[0].identity  # by which requests keep keys
        with pytest.raises(RunLocked):
            Session().open(tmp_path)  # leaves nothing open
        session.settle()
    async with Session() as session:
        again = session.engine(STUDENT, "student")
        session.open(tmp_path)
        await again.ask(HELLO)
        assert session.recorded[0].asked.total() == 0
    with Ledger.open(tmp_path / "ledger.sqlite", read_only=True) as ledger:
        assert [(total.engine, total.calls) for total in ledger.totals()] == [("student", 1)]


@pytest.mark.parametrize("problem", [Interrupted, InputError, ValueError])
async def test_a_session_that_ends_badly_is_closed_all_the_same(
    opened: list[Closing], tmp_path: Path, problem: type[Exception]
):
    async def fail() -> None:
        async with Session() as session:
            session.engine(STUDENT, "student")
            session.open(tmp_path)
            raise problem("stop")

    expected: type[BaseException] = KeyboardInterrupt if problem is Interrupted else problem
    with pytest.raises(expected):
        await fail()
    assert opened[0].closed == 1
    async with Session() as again:
        again.open(tmp_path)


async def test_an_engine_that_is_open_already_takes_the_place_of_the_one_in_the_file(
    opened: list[Closing], tmp_path: Path
):
    own = Closing()
    async with Session() as session:
        session.use(own, "judge:a")
        (given,) = build(session, judge("a"))
        session.open(tmp_path)
        await given.engine.ask(HELLO)
    assert opened == []
    assert own.closed == 1


async def test_what_was_opened_before_a_missing_model_is_closed(opened: list[Closing]):
    async with Session() as session:
        session.engine(STUDENT, "student")
        with pytest.raises(EngineMissing):
            build(session, judge("a", model="no-such-model"))
    assert opened[0].closed == 1


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each judge was built."""
    names: Counter[str] = Counter()

    def build_counted(config: JudgeConfig, **arguments: Any) -> Any:
        names[config.name] += 1
        return build_configured_judge(config, **arguments)

    monkeypatch.setattr(sessions, "build_configured_judge", build_counted)
    return names


def run_file(folder: Path) -> dict[str, Any]:
    prompts = folder / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": "Why?"}) + "\n")
    return {
        "name": "run",
        "prompts": {"path": str(prompts)},
        "constitution": "hhh",
        "student": {"engine": "scripted", "model": "echo"},
        "judges": [
            {"name": "one", "engine": "scripted", "model": "judge-random"},
            {"name": "two", "engine": "scripted", "model": "judge-longer"},
        ],
        "out": str(folder / "run"),
    }


def test_every_command_builds_each_of_its_judges_once(tmp_path: Path, built: Counter[str]):
    once = {"one": 1, "two": 1}
    settings = run_file(tmp_path)
    rlaif.estimate(settings)
    assert built == once
    assert not (tmp_path / "run").exists()
    built.clear()
    run = rlaif.generate(settings)
    assert built == once
    built.clear()
    rlaif.relabel(run.path, constitution="honest", out=tmp_path / "relabelled")
    assert built == once
    built.clear()
    rlaif.reparse(run.path, out=tmp_path / "reparsed")
    assert built == once
    built.clear()
    student = {**settings["student"], "name": "base"}
    other = {"name": "other", "engine": "scripted", "model": "judge-random"}
    rlaif.evaluate(
        {
            **{key: settings[key] for key in ("name", "prompts", "constitution", "judges")},
            "models": [student, other],
            "baseline": "base",
            "out": str(tmp_path / "evaluation"),
        }
    )
    assert built == once
    built.clear()
    gold = write_gold(tmp_path / "gold.jsonl", 3)
    audit_judge({"judges": settings["judges"], "out": str(tmp_path / "audit")}, [gold])
    assert built == once
