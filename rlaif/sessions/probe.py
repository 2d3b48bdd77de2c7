"""One engine before a run: each form of request is sent once, and its reply answers all alike."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlaif.constitution import Principle
from rlaif.engines import (
    Capability,
    Generate,
    Label,
    Lasting,
    Priced,
    Remote,
    Reply,
    Request,
    Score,
    Served,
    Usage,
)
from rlaif.errors import (
    CallFailed,
    EngineError,
    EngineUnavailable,
    InputError,
    KeyRefused,
    ModelUnknown,
    NothingSucceeded,
)
from rlaif.judging.judge import FlowJudge
from rlaif.judging.reading import FAILED_REASON, LOW_MASS_REASON
from rlaif.records import Comparison, Prompt, Response, Verdict
from rlaif.runs.text import one_line
from rlaif.sessions.budget import NO_ROOM
from rlaif.sessions.engines import SessionEngine
from rlaif.sessions.outset import UNREAD, hint_for, may_pass
from rlaif.sessions.role_checks import RoleCheck, TinyCall

PURPOSE = "preflight"
LIMIT_S = 20.0
"""How long a server may take for its tiny calls."""

LEAST_MASS = 0.01
"""Labels that are less probable together are not what the judge says next."""

_MAY_NOT_LIST = re.compile(r"\b(?:scopes?|permissions?)\b", re.IGNORECASE)
"""Words of a server whose key is good, but not for its list of models."""

_SHOWN = 500

PROMPT = Prompt.build("What is the capital of France? Answer in one word.", id=PURPOSE)
_PRINCIPLE = Principle(
    id=PURPOSE,
    statement="Answer the question correctly.",
    opposite="Answer the question wrongly.",
    comparison="Which response answers the question correctly?",
)
_COMPARISON = Comparison(
    Response.build(PROMPT.id, "Paris.", index=0), Response.build(PROMPT.id, "Rome.", index=1)
)


class Probe:
    """One engine before a run: a call of each form is made once and answers all like it.

    Args:
        engine: Is asked.
        send: Sends one call to it.
        give_up: Whether a call that fails is a problem; else it is a warning.
    """

    def __init__(
        self,
        engine: SessionEngine,
        send: Callable[[Request], Awaitable[Sequence[Reply]]],
        *,
        give_up: bool = True,
    ) -> None:
        self._engine = engine
        self._send = send
        self._give_up = give_up
        self._asked: dict[Any, asyncio.Task[Sequence[Reply]]] = {}
        self._calls: list[TinyCall] = []
        self._warnings: list[str] = []
        self._problem: EngineError | None = None
        self._key_refused = self._unknown = False
        self._mass: float | None = None
        self._readable: bool | None = None
        self.reachable = True
        self.served: Served | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        """The engine's own."""
        return self._engine.identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The engine's own."""
        return self._engine.capabilities

    async def aclose(self) -> None:
        """Nothing to close: the engine belongs to its session."""

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Answer, with an earlier reply to a request of the same form where there is one."""
        return await self._ask([request])

    async def try_call(self, ways: Sequence[Request]) -> None:
        """Make a call, in the next way where the server refuses one; what goes wrong is noted."""
        try:
            await self._ask(ways)
        except EngineError:
            return

    async def _ask(self, ways: Sequence[Request]) -> Sequence[Reply]:
        request = ways[0]
        form = _form_of(request)
        if form not in self._asked:
            alike = [replace(one, purpose=PURPOSE) for one in ways]
            self._asked[form] = asyncio.create_task(self._call(*alike))
        replies = await asyncio.shield(self._asked[form])
        count = len(request.seeds) if isinstance(request, Generate) else 1
        return [replies[place % len(replies)] for place in range(count)]

    async def try_judge(self, judge: FlowJudge) -> None:
        """Let a judge decide an easy comparison; what goes wrong is noted."""
        tried = replace(judge, engine=self, watch=None)
        try:
            verdicts = await tried.judge(PROMPT, _COMPARISON, [_PRINCIPLE])
        except InputError as problem:  # such as a template of the user's that cannot show it
            self._warnings.append(f"not tried with a tiny comparison: {problem.message}")
        except EngineError:
            return
        else:
            self._read(judge, verdicts)

    def _read(self, judge: FlowJudge, verdicts: Sequence[Verdict]) -> None:
        """Note whether verdicts could be read.

        Those that could not are a warning: this judge may read other comparisons well, and
        `VerdictOutset` ends a command whose first verdicts are all like that.
        """
        known = [one for one in verdicts if one.reason != FAILED_REASON]
        if not known:
            return
        masses = [one.mass for one in known if one.mass is not None]
        mass = min(masses, default=None)
        unread = [one for one in known if one.reason]
        if mass is not None:
            self._mass = mass if self._mass is None else min(mass, self._mass)
        if unread or (mass is not None and mass < LEAST_MASS):
            worst = unread[0] if unread else known[0]
            reason = worst.reason or LOW_MASS_REASON
            self._readable = False
            share = "" if mass is None else f", labels have {mass:.1g} probability"
            raw = f", it says {one_line(worst.raw, 80)!r}" if worst.raw.strip() else ""
            hint = UNREAD.get(reason, "")
            self._warnings.append(
                f"the judge {judge.name!r} gives no clear verdict on an easy comparison "
                f"({reason}{share}{raw}){f': {hint}' if hint else ''}"
            )
        elif self._readable is None:
            self._readable = True

    def note(self, problem: EngineError) -> None:
        """Note why the role cannot work; the first reason counts."""
        self._problem = self._problem or problem
        self._key_refused = self._key_refused or isinstance(problem, KeyRefused)
        self._unknown = self._unknown or isinstance(problem, ModelUnknown)

    def judge_the_list(self) -> None:
        """Note what the list of models tells, where nothing else is asked."""
        self._warnings.append("batches: only its list of models was asked for")
        served = self.served
        if served is not None and served.refused:
            words = f"{served.address} does not accept the key ({served.refused})"
            if _MAY_NOT_LIST.search(served.refused):
                self._warnings.append(f"{words} for its list of models")
                return
            self.note(
                KeyRefused(words, hint="check the environment variable that api_key_env names")
            )
        elif isinstance(engine := self._engine.engine, Remote) and (missing := engine.unlisted()):
            # Deployments and models of one's own need not be listed.
            self._warnings.append(f"{missing.message}, by its list of models ({missing.hint})")

    def stop(self) -> None:
        """Cancel calls that are under way."""
        for call in self._asked.values():
            call.cancel()

    def checked(self) -> RoleCheck:
        """Return what is known of the roles of this engine."""
        engine = self._engine.engine
        remote = isinstance(engine, Remote)
        identity, served = engine.identity, self.served
        answered = any(one.ok for one in self._calls)
        known = answered or identity.get("model") in (served.models if served else ())
        priced = engine.price(Usage(1, 1)) is not None if isinstance(engine, Priced) else None
        return RoleCheck(
            roles=tuple(self._engine.roles),
            account=self._engine.label,
            engine=str(identity.get("engine", "")),
            model=str(identity.get("model", "")),
            address=served.address if served else "",
            remote=remote,
            reachable=self.reachable if remote else None,
            key_accepted=False if self._key_refused else True if answered else None,
            model_known=False if self._unknown else True if known else None,
            label_mass=self._mass,
            readable=self._readable,
            takes=engine.takes() if isinstance(engine, Remote) else {},
            priced=priced,
            calls=tuple(self._calls),
            warnings=tuple(self._warnings),
            problem=self._problem,
        )

    async def _call(self, request: Request, *others: Request) -> Sequence[Reply]:
        engine, started = self._engine.engine, time.monotonic()
        replies: Sequence[Reply] = ()
        try:
            async with asyncio.timeout(LIMIT_S):
                replies = await self._send(request)
        except TimeoutError:
            trouble = engine.pending() if isinstance(engine, Lasting) else ""
            words = f"no reply within {LIMIT_S:.3g} s{f' ({trouble})' if trouble else ''}"
            self._warnings.append(f"{words}: whether it works is not known")
            raise CallFailed(words, kind="timeout") from None
        except CallFailed as problem:
            if not others or may_pass(problem) or problem.kind == NO_ROOM:
                self._note_failed(problem)
                raise
        except EngineError as problem:
            self.note(problem)
            raise
        finally:
            seconds = time.monotonic() - started
            tokens = sum(one.usage.completion_tokens for one in replies)
            self._calls.append(TinyCall(_kind_of(request), seconds, tokens, len(replies)))
        return replies or await self._call(*others)

    def _note_failed(self, problem: CallFailed) -> None:
        if "output limit was reached" in problem.message:  # a model that thinks; it does answer
            return
        if problem.kind in ("timeout", NO_ROOM):
            self._warnings.append(f"{problem.message}: whether it works is not known")
            return
        words = f"{problem.kind}: {one_line(problem.message, _SHOWN)}"
        if not self._give_up:
            self._warnings.append(words)
            return
        engine, passes = self._engine.engine, may_pass(problem)
        refused = problem.kind.startswith("http-4") and not passes
        unexplained = refused and not problem.hint  # else it is about a field, and says which
        missing = engine.unlisted() if unexplained and isinstance(engine, Remote) else None
        if missing is not None:
            self.note(ModelUnknown(f"{missing.message} ({problem.message})", hint=missing.hint))
            return
        kind = EngineUnavailable if passes else NothingSucceeded
        self.note(kind(words, hint=hint_for(problem, self._engine.label)))


def _form_of(request: Request) -> Any:
    """Return what requests have in common that a server treats alike."""
    roles = tuple(message["role"] for message in request.messages)
    match request:
        case Generate(sampling=sampling):
            drawn = replace(sampling, max_tokens=0)
            many = len(request.seeds) > 1
            return roles, drawn, many, bool(request.stub), request.choices, request.schema
        case Label():
            return roles, request.labels, bool(request.stub)
        case Score():
            return "score"


def _kind_of(request: Request) -> str:
    match request:
        case Generate():
            if request.choices:
                return f"one of {', '.join(request.choices)}"
            if request.schema:
                return "JSON"
            return "text" if len(request.seeds) == 1 else f"{len(request.seeds)} samples"
        case Label():
            return f"labels {', '.join(request.labels)}"
        case Score():
            return "score"
