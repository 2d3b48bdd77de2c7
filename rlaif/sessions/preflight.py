"""Preflight: before a run, each server is asked for its models and one tiny call of each kind.

A dead address, a wrong key, a wrong model or a judge whose labels cannot be read is then known
before anything is sampled. Judges are asked about one easy comparison, through their own flow, so
whatever their method needs is tried; other roles say what they will ask (`Preflight.expect`).
Calls of the same form to one engine are made once. They answer no question of the run: the ledger
counts what they cost under the purpose ``preflight``, and what they teach an engine about its
server stays with the engine. Engines in this process are not asked: opening them read the files.

A new command asks all servers at once. Where a ledger may answer, each engine is tried before the
first call that goes to it, because a server whose part is done may have been shut down.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rlaif.engines import (
    Capability,
    Engine,
    Generate,
    Priced,
    Remote,
    Reply,
    Request,
    Sampling,
    Score,
    is_batching,
)
from rlaif.engines.ask import run_together
from rlaif.errors import (
    EngineError,
    EngineMissing,
    EngineUnavailable,
    NothingSucceeded,
)
from rlaif.judging.judge import FlowJudge
from rlaif.runs.layout import Layout
from rlaif.runs.stores import url_of
from rlaif.sessions.budget import Budget, most_of
from rlaif.sessions.engines import SessionEngine
from rlaif.sessions.probe import PROMPT, PURPOSE, Probe
from rlaif.sessions.role_checks import RoleCheck

log = logging.getLogger(__name__)

Send = Callable[[SessionEngine, Request], Awaitable[Sequence[Reply]]]
"""Sends one tiny call to an engine."""

_MOST_TOKENS = 16
"""Of a tiny sample; some servers refuse a lower limit."""

_MOST_SAMPLES = 8
_SWITCH_OFF = "preflight: false starts without asking"


def tiny_sample(
    engine: Engine, sampling: Sampling, *, n: int = 1, system: str = ""
) -> tuple[Request, ...]:
    """Return what a role that draws responses will ask, with a short prompt.

    First with short replies, then with its own limit: some fields, such as ``min_tokens`` or a
    number of tokens to think, are refused beside a lower one.
    """
    drawn = max(1, min(n, _MOST_SAMPLES)) if Capability.SAMPLES in engine.capabilities else 1
    own = Generate(PROMPT.with_system(system), sampling, tuple(range(drawn)), purpose=PURPOSE)
    if sampling.max_tokens <= _MOST_TOKENS:
        return (own,)
    return replace(own, sampling=replace(sampling, max_tokens=_MOST_TOKENS)), own


def tiny_score() -> tuple[Request, ...]:
    """Return what a role that scores continuations will ask."""
    return (Score(PROMPT.messages, "Paris.", purpose=PURPOSE),)


class Preflight:
    """What the engines of one session will be asked, tried once.

    Args:
        on: Whether `ready` asks anything.
        give_up: Whether calls that all fail end the command.

    Attributes:
        budget: What may be spent before there is a ledger; None: anything.
        spent: What was answered before there was a ledger, by engine.
    """

    def __init__(self, *, on: bool, give_up: bool = True) -> None:
        self.on = on
        self._give_up = give_up
        self._expected: dict[SessionEngine, list[Sequence[Request]]] = {}
        self._judges: dict[SessionEngine, list[FlowJudge]] = {}
        self.budget: Budget | None = None
        self.spent: list[tuple[SessionEngine, Sequence[Reply]]] = []
        self._send: Send = self._send_directly
        self._checks: dict[SessionEngine, asyncio.Task[RoleCheck]] = {}
        self._passed: set[SessionEngine] = set()

    def expect(self, engine: SessionEngine, ways: Sequence[Request]) -> None:
        """Note what will be asked of an engine; the next way is tried where one is refused."""
        self._expected.setdefault(engine, []).append(ways)

    def expect_judge(self, engine: SessionEngine, judge: FlowJudge) -> None:
        """Note a judge that will ask an engine."""
        self._judges.setdefault(engine, []).append(judge)

    def send_through(self, send: Send) -> None:
        """Send calls from now on by this, which writes down what they cost."""
        self._send = send

    async def _send_directly(self, engine: SessionEngine, request: Request) -> Sequence[Reply]:
        if self.budget is not None:
            priced = engine.engine if isinstance(engine.engine, Priced) else None
            most = most_of(request, priced)
            self.budget.check_room(most)
            self.budget.add(most)
        replies = await engine.engine.ask(request)
        self.spent.append((engine, replies))
        return replies

    async def all_ready(self) -> None:
        """Try every engine, unless that is switched off; return when all roles can work.

        Raises:
            EngineError: A role cannot work; of the class by which the run itself would have ended.
        """
        if self.on:
            checks = await self.check()
            raise_problems(checks)
            self.on = False
            _warn(checks)

    async def ready(self, engine: SessionEngine) -> None:
        """Try one engine, unless that is switched off or was done; return when it can work.

        Raises:
            EngineError: See `all_ready`.
        """
        if not self.on or engine in self._passed:
            return
        if engine not in self._checks:
            self._checks[engine] = asyncio.create_task(self._check(engine))
        check = await asyncio.shield(self._checks[engine])
        raise_problems([check])
        if engine not in self._passed:
            self._passed.add(engine)
            _warn([check])

    async def before(self, folder: Path, reuse: Sequence[Path] = ()) -> None:
        """Ask before a new folder is created.

        With a ledger in it, or others to reuse, there may be nothing to ask of some of them: each
        is then tried before the first call that no ledger answers.

        Raises:
            EngineError: See `all_ready`.
        """
        if not reuse and url_of(folder) is None and not Layout(folder).ledger.exists():
            await self.all_ready()

    async def aclose(self) -> None:
        """Stop asking."""
        asking = [one for one in self._checks.values() if not one.done()]
        for one in asking:
            one.cancel()
        if asking:
            await asyncio.wait(asking)

    async def check(self) -> tuple[RoleCheck, ...]:
        """Ask all engines side by side; a role that cannot work is a check with a problem."""
        engines = dict.fromkeys([*self._expected, *self._judges])
        return tuple(await run_together([self._check(one) for one in engines]))

    async def _check(self, engine: SessionEngine) -> RoleCheck:
        probe = Probe(engine, partial(self._send, engine), give_up=self._give_up)
        if not isinstance(engine.engine, Remote):
            return probe.checked()
        try:
            probe.served = await engine.engine.look()
        except EngineError as problem:
            probe.reachable = False
            probe.note(problem)
            return probe.checked()
        if is_batching(engine.engine):
            probe.judge_the_list()
            return probe.checked()
        expected, judges = self._expected.get(engine, ()), self._judges.get(engine, ())
        work = [probe.try_call(one) for one in expected]
        work += [probe.try_judge(one) for one in judges]
        try:
            await run_together(work)
        finally:
            probe.stop()
        return probe.checked()


def _warn(checks: Sequence[RoleCheck]) -> None:
    for one in checks:
        for words in one.warnings:
            log.warning("%s: %s", one.label, words)


def raise_problems(checks: Sequence[RoleCheck]) -> None:
    """Raise what keeps roles from working, all in one message.

    Raises:
        EngineMissing: At least one has a wrong key, model or capability.
        NothingSucceeded: Else, one answers with nothing that can be used.
        EngineUnavailable: Else, one is down.
    """
    broken = [one for one in checks if one.problem is not None]
    if not broken:
        return
    problems = [one.problem for one in broken if one.problem is not None]
    words: dict[str, list[str]] = {}
    for one, problem in zip(broken, problems, strict=True):
        words.setdefault(problem.message, []).append(one.label)
    message = "\n".join(f"{' and '.join(who)}: {what}" for what, who in words.items())
    hints = dict.fromkeys(problem.hint for problem in problems if problem.hint)
    order = (EngineMissing, NothingSucceeded, EngineUnavailable)
    ranked = [one for kind in order for one in problems if isinstance(one, kind)]
    first = ranked[0] if ranked else problems[0]
    raise type(first)(message, hint="; ".join([*hints, _SWITCH_OFF]))
