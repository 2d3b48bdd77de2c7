"""Asking: every judge on every gold pair, the trial before it, and the repetitions after it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from rlaif.auditing.gold import GoldPair, GoldSet, choice_of
from rlaif.auditing.question import Question
from rlaif.auditing.result import entries_behind
from rlaif.config.evaluate import AuditConfig
from rlaif.config.judge import JudgeConfig
from rlaif.engines import Capability, Engine, Generate, Reply, Request
from rlaif.judging import Judge, Orders, judge_comparison
from rlaif.judging.reading import IRRELEVANT_REASON
from rlaif.judging.relevance import Relevance
from rlaif.records import Choice, Judgment, Prompt, Verdict, content_seed, content_uniform
from rlaif.records.plain import Plain
from rlaif.runs import Entry, Ledger
from rlaif.sessions.concurrent import run_all
from rlaif.sessions.session import OpenedJudge, Session
from rlaif.sessions.shown import OnProgress

_REPETITION: ContextVar[int] = ContextVar("repetition", default=0)


@contextmanager
def repetition(number: int) -> Iterator[None]:
    """Use the seeds of this repetition inside, also in tasks started there; 0 changes none."""
    token = _REPETITION.set(number)
    try:
        yield
    finally:
        _REPETITION.reset(token)


class ReseededEngine:
    """An engine whose sampled requests get the seeds of the current `repetition`.

    Attributes:
        sampled: Whether any request was sampled (temperature above 0), so that asking again can
            give another answer.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.sampled = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """The engine's own."""
        return self._engine.identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The engine's own."""
        return self._engine.capabilities

    async def ask(self, request: Request) -> Sequence[Reply]:
        """Pass the request on, with other seeds in a repetition."""
        if isinstance(request, Generate) and request.sampling.temperature > 0.0:
            self.sampled = True
            number = _REPETITION.get()
            if number:
                seeds = tuple(content_seed(number, "repeat", seed) for seed in request.seeds)
                request = replace(request, seeds=seeds)
        return await self._engine.ask(request)

    async def aclose(self) -> None:
        """Close the engine."""
        await self._engine.aclose()


@dataclass(frozen=True, slots=True)
class Audited:
    """One judge as it is audited."""

    opened: OpenedJudge
    engine: ReseededEngine

    @property
    def judge(self) -> Judge:
        """The judge itself."""
        return self.opened.judge

    @property
    def name(self) -> str:
        """The judge's name."""
        return self.judge.name


def build_judges(
    session: Session,
    configs: Sequence[JudgeConfig],
    question: Question,
    *,
    orders: Orders,
    min_mass: float,
) -> tuple[Audited, ...]:
    """Build judges whose sampled requests can be repeated with other seeds.

    Raises:
        InputError: A template or a setting cannot be used.
        EngineMissing: A model is missing, or cannot do what its judge needs.
    """
    engines = [ReseededEngine(session.judge_engine(config)) for config in configs]
    return tuple(
        Audited(
            session.judge(
                config, engine, orders=orders, min_mass=min_mass, principles=question.ids()
            ),
            engine,
        )
        for config, engine in zip(configs, engines, strict=True)
    )


def ask_relevance(session: Session, judge: Audited, settings: AuditConfig) -> Relevance:
    """Let a judge's own model say which principles apply.

    Raises:
        EngineMissing: It gives no probabilities of labels.
    """
    return Relevance.build(
        name=judge.name,
        engine=judge.engine,
        templates=session.templates,
        min_mass=settings.min_mass,
    )


def count_applied(verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    """Count by principle the verdicts that say whether it applies."""
    counts: dict[str, dict[str, int]] = {}
    for verdict in verdicts:
        if verdict.reason in ("", IRRELEVANT_REASON):
            _count(counts, verdict.principle, applies=not verdict.reason)
    return counts


def _count(counts: dict[str, dict[str, int]], principle: str, *, applies: bool) -> None:
    own = counts.setdefault(principle, {"relevant": 0, "irrelevant": 0})
    own["relevant" if applies else "irrelevant"] += 1


TRIAL_PAIRS = 2
"""Pairs of every gold set that each judge is timed on before the audit starts."""


@dataclass(frozen=True, slots=True)
class Estimate(Plain):
    """What one judge will cost, from a timed trial on a few pairs of every gold set."""

    judge: str
    pairs: int
    """Gold pairs, all sets together; the trial's are among them and are not paid twice."""

    calls: float
    prompt_tokens: float
    completion_tokens: float
    price: float | None
    """None when a call has no known price."""

    minutes: float | None
    """None when the trial was answered from the ledger, so that nothing was timed."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Judges gold pairs under one question, with progress and the ledger."""

    question: Question
    ledger: Ledger
    concurrency: int
    on_progress: OnProgress
    relevance: Mapping[str, Relevance] = field(default_factory=dict)
    """Judge to what says which principles apply; of several judges together the first one's."""

    _applied: dict[str, dict[str, dict[str, bool]]] = field(default_factory=dict)
    """Judge, principle and prompt to whether it applies."""

    def applied(self, judge: str) -> dict[str, dict[str, int]]:
        """Count by principle the prompts to which it applies, as a judge says, and the others."""
        counts: dict[str, dict[str, int]] = {}
        for principle, prompts in self._applied.get(judge, {}).items():
            for applies in prompts.values():
                _count(counts, principle, applies=applies)
        return counts

    async def _question(self, judge: str, prompt: Prompt) -> Question:
        """The question about a prompt, of the principles that apply to it."""
        if judge not in self.relevance:
            return self.question
        found = await self.relevance[judge].choose(prompt, self.question.candidates)
        own = self._applied.setdefault(judge, {})
        for principle in self.question.candidates:
            own.setdefault(principle.id, {})[prompt.id] = principle in found.principles
        return replace(self.question, candidates=found.principles)

    async def judge(
        self, judges: Sequence[Audited], pairs: Sequence[GoldPair], what: str
    ) -> list[Judgment]:
        """Put every pair before all of these judges together; judgments in the order of pairs.

        Raises:
            Interrupted: A signal arrived; what was asked is in the ledger.
            EngineUnavailable: A model or server is down.
        """
        judgments: dict[int, Judgment] = {}
        panel = [one.opened.weighted for one in judges]

        async def one(item: tuple[int, GoldPair]) -> None:
            place, pair = item
            question = await self._question(judges[0].name, pair.prompt)
            judgments[place] = await judge_comparison(
                pair.prompt,
                pair.comparison,
                judges=panel,
                drawn=question.drawn(pair.prompt, pair.comparison.id),
                candidates=question.candidates,
            )
            self.on_progress(what, len(judgments), len(pairs))

        await run_all(iter(enumerate(pairs)), one, concurrency=self.concurrency)
        return [judgments[place] for place in range(len(pairs))]

    async def trial(
        self, judge: Audited, sets: Sequence[GoldSet], *, repeats: int, repeat_pairs: int
    ) -> Estimate:
        """Time one judge on a few pairs of every set and extrapolate to all of them.

        The pairs of all sets are judged together, as busily as the audit itself will be.
        """
        drawn = [draw_pairs(gold, TRIAL_PAIRS) for gold in sets]
        seen = self._asked()
        started = time.monotonic()
        judged = await self.judge([judge], list(chain(*drawn)), f"trial of {judge.name}")
        took = time.monotonic() - started
        spent, whole = _Spent(), _Spent()
        for gold, pairs in zip(sets, drawn, strict=True):
            own = _Spent()
            for judgment in judged[: len(pairs)]:
                own.count(entries_behind(judgment, self.ledger.get))
            del judged[: len(pairs)]
            again = min(len(gold.pairs), repeat_pairs) * (repeats - 1)
            total = len(gold.pairs) + (again if judge.engine.sampled else 0)
            spent.add(own, 1.0)
            whole.add(own, total / len(pairs))
        return Estimate(
            judge=judge.name,
            pairs=sum(len(gold.pairs) for gold in sets),
            calls=whole.calls,
            prompt_tokens=whole.prompt_tokens,
            completion_tokens=whole.completion_tokens,
            price=whole.price,
            minutes=took * whole.work / spent.work / 60.0
            if self._asked() > seen and spent.work
            else None,
        )

    async def repeat(
        self, judge: Audited, gold: GoldSet, first: Sequence[Judgment], *, repeats: int, pairs: int
    ) -> tuple[list[str], list[list[Choice]]]:
        """Ask a judge the same again with other seeds.

        Returns:
            The prompt of each repeated pair, and all its choices, the first one included.
        """
        drawn = draw_pairs(gold, pairs)
        by_id = {pair.id: one for pair, one in zip(gold.pairs, first, strict=True)}
        choices = [[choice_of(by_id[pair.id])] for pair in drawn]
        for number in range(1, repeats):
            with repetition(number):
                what = f"{judge.name} on {gold.name} again ({number + 1} of {repeats})"
                again = await self.judge([judge], drawn, what)
            for row, judgment in zip(choices, again, strict=True):
                row.append(choice_of(judgment))
        return [pair.cluster for pair in drawn], choices

    def _asked(self) -> int:
        return sum(total.calls for total in self.ledger.totals())


@dataclass(slots=True)
class _Spent:
    """Calls, tokens and price, summed."""

    calls: float = 0.0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    price: float | None = 0.0
    """None once a call had no known price."""

    @property
    def work(self) -> float:
        """What time is assumed to grow with: tokens, or calls where no tokens were counted."""
        return self.prompt_tokens + self.completion_tokens or self.calls

    def count(self, entries: Sequence[Entry]) -> None:
        """Add calls from the ledger."""
        for entry in entries:
            self.add(_Spent(1.0, entry.prompt_tokens, entry.completion_tokens, entry.price), 1.0)

    def add(self, other: "_Spent", times: float) -> None:
        """Add another sum, multiplied by ``times``."""
        self.calls += times * other.calls
        self.prompt_tokens += times * other.prompt_tokens
        self.completion_tokens += times * other.completion_tokens
        known = self.price is not None and other.price is not None
        self.price = (self.price or 0.0) + times * (other.price or 0.0) if known else None


def draw_pairs(gold: GoldSet, count: int) -> list[GoldPair]:
    """Draw pairs of a set by their content; more pairs are the same and more."""
    drawn = sorted(gold.pairs, key=lambda pair: content_uniform(0, "trial", pair.id))
    return drawn[:count]
