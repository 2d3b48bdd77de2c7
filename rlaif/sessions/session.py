"""A session: what every command that asks models needs, opened once and closed in order.

    async with Session(settings.templates) as session:
        student = session.engine(settings.student, "student")
        judges = session.judges(
            settings.judges, asked=1, orders="both", min_mass=0.0, principles=ids
        )
        ...  # check everything: nothing is written and nothing can be asked yet
        await session.preflight.before(settings.out, settings.reuse)  # asks every server once
        session.open(settings.out, reuse=settings.reuse)  # the folder, its lock, its ledger
        ...  # ask
        session.settle()

Engines are opened before the ledger, because the plan and the judges need their identities. So
students and judges hold a `SessionEngine`, and the session decides where its calls go: through a
recorder (`open`, `record`), or through anything else that speaks the engine protocol (`connect`).
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rlaif.config.judge import JudgeConfig
from rlaif.config.run import EngineConfig
from rlaif.engines import Engine, Remote, is_batching
from rlaif.judging import Judge, Orders, build_configured_judge
from rlaif.judging.build import configured_fingerprint
from rlaif.judging.calibration import check_asked, read_calibration
from rlaif.runs import Ledger
from rlaif.runs.files import check_results_folder, make_folder
from rlaif.runs.layout import Layout
from rlaif.runs.ledger.ledger import check_reuse
from rlaif.runs.lock import RunLock
from rlaif.sessions.budget import Budget
from rlaif.sessions.concurrent import Interrupted
from rlaif.sessions.engines import (
    SAME_AS_STUDENT,
    SessionEngine,
    engine_key,
    judge_role,
    open_configured,
)
from rlaif.sessions.outset import GIVE_UP_AFTER, VerdictOutset
from rlaif.sessions.preflight import Preflight
from rlaif.sessions.probe import PURPOSE
from rlaif.sessions.recorded import Memory, RecordedEngine
from rlaif.templates import TemplateSet


@dataclass(frozen=True, slots=True)
class OpenedJudge:
    """A judge as its file describes it, ready to be asked."""

    config: JudgeConfig
    judge: Judge
    engine: Engine
    fingerprint: str
    """Of everything that decides what it says; audits and calibrations know it by this."""

    @property
    def weighted(self) -> tuple[Judge, float]:
        """The judge with its weight in a panel."""
        return self.judge, self.config.weight

    def plan(self) -> dict[str, Any]:
        """What of it belongs to a plan: the model, the method and its settings."""
        return {"engine": dict(self.engine.identity), **self.config.plan()}


class SessionSettings(Protocol):
    """What every file that names models to be asked says."""

    @property
    def templates(self) -> Path | None:
        """A folder whose files override shipped templates one by one."""
        ...

    @property
    def give_up_after(self) -> int:
        """How many equal failures at the start end the command."""
        ...

    @property
    def preflight(self) -> bool:
        """Whether each server is asked once before the first call."""
        ...


class Session:
    """Engines, judges and the ledger of one command. Leaving it closes everything.

    A signal that stops the work (`Interrupted`) leaves it as a KeyboardInterrupt.

    Args:
        templates: A folder whose files override shipped templates one by one.
        give_up_after: Stop when so many first calls of a kind failed for the same reason and none
            succeeded; 0: never.
        preflight: Whether each server is asked once before the first call (`Preflight`).

    Attributes:
        templates: The templates, all of them checked.
        engines: Role to engine; roles that name the same model share one.
        recorded: The recorders, one an engine, once there is a ledger.

    Raises:
        TemplateError: A template cannot be used.
    """

    def __init__(
        self,
        templates: Path | None = None,
        *,
        give_up_after: int = GIVE_UP_AFTER,
        preflight: bool = False,
    ) -> None:
        self.templates = TemplateSet.open(templates)
        self.templates.check_all()
        self.engines: dict[str, SessionEngine] = {}
        self.recorded: tuple[RecordedEngine, ...] = ()
        self.give_up_after = give_up_after
        self.preflight = Preflight(on=preflight, give_up=give_up_after > 0)
        self._watches: list[tuple[VerdictOutset, Engine]] = []
        self._by_key: dict[str, SessionEngine] = {}
        self._opened: list[SessionEngine] = []
        self._open_engines = AsyncExitStack()
        self._folder = ExitStack()

    @classmethod
    def of(cls, settings: SessionSettings) -> Self:
        """Return a session as a file asks for it; nothing is opened in it yet."""
        return cls(
            settings.templates, give_up_after=settings.give_up_after, preflight=settings.preflight
        )

    def engine(self, config: EngineConfig | JudgeConfig, role: str) -> SessionEngine:
        """Return the engine of a role; opened unless the role or the same model has one already.

        Raises:
            EngineMissing: The model, an extra or a key is missing.
        """
        if role not in self.engines:
            key = engine_key(config)
            if key not in self._by_key:
                self._by_key[key] = self._keep(open_configured(config))
            self._give_role(role, self._by_key[key])
        return self.engines[role]

    def use(self, engine: Engine, role: str) -> SessionEngine:
        """Let an engine that is open already play a role, whatever model the settings name."""
        self._give_role(role, self._keep(engine))
        return self.engines[role]

    def judges(
        self,
        configs: Sequence[JudgeConfig],
        *,
        asked: int,
        orders: Orders,
        min_mass: float,
        principles: Collection[str],
        student: EngineConfig | None = None,
    ) -> tuple[OpenedJudge, ...]:
        """Build the judges of a file on their engines.

        Args:
            configs: The entries of ``judges:``.
            asked: How many principles stand behind a label.
            orders: In which orders they are asked.
            min_mass: Label mass below which they abstain.
            principles: Ids of the judged principles; settings may name no others.
            student: The model that ``same-as-student`` means.

        Raises:
            InputError: Settings, a template or a calibration cannot be used.
            EngineMissing: A model is missing, or cannot do what its judge needs.
        """
        for config in configs:
            if config.calibration is not None:
                fitted = read_calibration(config.calibration)
                check_asked(fitted, asked, who=f"the judge {config.name!r}")
        return tuple(
            self.judge(
                config,
                self.judge_engine(config, student),
                orders=orders,
                min_mass=min_mass,
                principles=principles,
            )
            for config in configs
        )

    def judge_engine(
        self, config: JudgeConfig, student: EngineConfig | None = None
    ) -> SessionEngine:
        """Return the engine of a judge; ``student`` is the model ``same-as-student`` means."""
        itself = student is not None and config.model == SAME_AS_STUDENT
        return self.engine(student if student and itself else config, judge_role(config.name))

    def judge(
        self,
        config: JudgeConfig,
        engine: Engine,
        *,
        orders: Orders,
        min_mass: float,
        principles: Collection[str],
    ) -> OpenedJudge:
        """Build one judge on an engine that the session opened, or on one that wraps it."""
        judge = build_configured_judge(
            config,
            engine=engine,
            templates=self.templates,
            orders=orders,
            min_mass=min_mass,
            principles=principles,
        )
        fingerprint = configured_fingerprint(
            config, judge, engine=engine, orders=orders, min_mass=min_mass
        )
        if role := self.engines.get(judge_role(config.name)):
            self.preflight.expect_judge(role, judge)
        watch = VerdictOutset(config.name)
        self._watches.append((watch, engine))
        return OpenedJudge(config, replace(judge, watch=watch), engine, fingerprint)

    def open(
        self, folder: Path, *, reuse: Sequence[Path] = (), results: Sequence[str] = ()
    ) -> Ledger:
        """Create a folder if necessary, lock it, and record all calls in its ledger.

        Args:
            folder: Where the ledger lies.
            reuse: Other folders whose ledgers answer first, at no cost.
            results: Files that will be written beside it in the end.

        Raises:
            InputError: A folder of ``reuse`` has no ledger, or a file of the user has the name of a
                result; nothing was written.
            RunLocked: Another process writes to it.
            RunError: It cannot be written, or the ledger is damaged.
        """
        check_reuse(reuse)
        check_results_folder(folder, results)
        make_folder(folder)
        with ExitStack() as opened:
            opened.callback(RunLock(folder).release)
            ledger = opened.enter_context(Ledger.open(Layout(folder).ledger, reuse=reuse))
            self._folder = opened.pop_all()
        self.record(ledger)
        return ledger

    def record(self, ledger: Memory, budget: Budget | None = None) -> None:
        """Record all calls in a ledger that is open already, within a budget if there is one."""
        by_role: dict[SessionEngine, RecordedEngine] = {}
        for opened in self._opened:
            by_role[opened] = RecordedEngine(
                opened.engine,
                ledger,
                label=opened.label,
                budget=budget,
                give_up_after=self.give_up_after,
                before=partial(self.preflight.ready, opened) if self.preflight.on else None,
            )
            opened.send_through(by_role[opened])
        self.watch_verdicts()
        self.recorded = tuple(by_role.values())
        for engine, replies in self.preflight.spent:
            spent = by_role[engine].book(PURPOSE, replies)
            if budget is not None:
                budget.add(spent)
        self.preflight.spent.clear()
        self.preflight.send_through(lambda engine, request: by_role[engine].ask_apart(request))

    def watch_verdicts(self) -> None:
        """Stop from now on when no verdict of a judge can be read; models are asked for real."""
        for watch, engine in self._watches:
            inner = engine.engine if isinstance(engine, SessionEngine) else engine
            watch.start(self.give_up_after, slow=not is_batching(inner))

    def connect(self, through: Callable[[str, Engine], Engine]) -> None:
        """Send the calls of every engine through something else.

        Args:
            through: Called once an engine with its name in the account and itself.
        """
        for opened in self._opened:
            opened.send_through(through(opened.label, opened.engine))

    def settle(self) -> None:
        """Make every reply so far durable, when all were asked for and used."""
        for engine in self.recorded:
            engine.settle()

    async def disconnect(self) -> None:
        """Close connections to servers; the next call opens new ones, in the loop that makes it."""
        for opened in self._opened:
            if isinstance(opened.engine, Remote) and not is_batching(opened.engine):
                await opened.aclose()

    async def close_engines(self) -> None:
        """Close every engine, once; the ledger stays open."""
        await self._open_engines.aclose()

    async def aclose(self) -> None:
        """Close the engines, then the ledger, and release the lock. Safe to call twice."""
        with self._folder:
            await self.preflight.aclose()
            await self.close_engines()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
        if isinstance(error, Interrupted):
            raise KeyboardInterrupt from None

    def _keep(self, engine: Engine) -> SessionEngine:
        self._open_engines.push_async_callback(engine.aclose)
        self._opened.append(SessionEngine(engine))
        return self._opened[-1]

    def _give_role(self, role: str, engine: SessionEngine) -> None:
        engine.roles.append(role)
        self.engines[role] = engine
