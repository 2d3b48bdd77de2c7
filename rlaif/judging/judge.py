"""The judge: asks what a method's flow yields and makes verdicts of what it returns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, final

from rlaif.constitution import Principle
from rlaif.engines import Capability, Engine, Generate, Reply, Request, request_key
from rlaif.engines.ask import ask_all, ask_one, run_together
from rlaif.errors import CallFailed
from rlaif.judging.methods.flow import (
    PRINCIPLE,
    PROMPT,
    TWICE,
    TWO,
    Flow,
    Method,
    Outcome,
    Question,
    cost_of,
    needs_of,
    rehearse,
)
from rlaif.judging.protocol import Cost, Needs, Watch
from rlaif.judging.reading import (
    FAILED_REASON,
    NO_REPLY,
    REFUSED_REASON,
    UNREADABLE_REASON,
    choose,
)
from rlaif.judging.transforms import Temperature, Transform
from rlaif.records import Choice, Comparison, Order, Prompt, Verdict, content_uniform
from rlaif.templates import Template

Orders = Literal["both", "one"]

_NO_SEED = (None,)


@final
@dataclass(frozen=True, slots=True)
class FlowJudge:
    """A judge by any method. Build with `rlaif.judging.build_judge`."""

    name: str
    method: str
    row: Method[Any]
    engine: Engine
    template: Template | None
    settings: Any
    orders: Orders = "both"
    """``both``, or ``one`` that is drawn by content: half the cost, and position bias stays in."""

    min_mass: float = 0.0
    """When the labels together are less probable than this, the judge abstains."""

    temperature: float | None = None
    """Of a calibration that an earlier version fitted to single opinions: divides their log-odds,
    last of all their transforms."""

    calibration: tuple[Transform, ...] = ()
    """What is done to the pool of its opinions."""

    watch: Watch | None = None
    """Receives every verdict until one can be read."""

    @property
    def needs(self) -> Needs:
        """What the requests of its flow take, found by rehearsal."""
        return needs_of(*self._rehearsed(TWO))

    @property
    def template_fingerprints(self) -> Mapping[str, str]:
        """The one template it shows, if any."""
        return {} if self.template is None else {self.template.name: self.template.fingerprint}

    @property
    def cost(self) -> Cost:
        """What its flow asks for, found by rehearsal."""
        can = self.engine.capabilities
        about_two, _ = self._rehearsed(TWO, can)
        about_one, _ = self._rehearsed(TWICE, can) if self.row.orders == "none" else ([], None)
        return cost_of(about_two, about_one, every_principle=self.row.principle is None)

    @property
    def sums(self) -> bool:
        """Whether principles are parts of one opinion of it, and are summed, not averaged."""
        return self.row.additive and self.row.summed(self.settings)

    def transforms(self, principle: str) -> tuple[Transform, ...]:
        """Those of its method, then the temperature of opinions."""
        done = self.row.transforms(self.settings, principle)
        return done if self.temperature is None else (*done, Temperature(self.temperature))

    def strength(self, principle: str, score: float) -> float:
        """Return the log-odds behind a response's own score.

        Raises:
            ValueError: Its method does not score responses by themselves.
        """
        if self.row.factor is None:
            raise ValueError(f"{self.method} does not score a response by itself")
        value = self.row.factor(self.settings, principle) * score
        for transform in (*self.transforms(principle), *self.calibration):
            if isinstance(transform, Temperature):
                value /= transform.t
        return value

    async def judge(
        self, prompt: Prompt, comparison: Comparison, principles: Sequence[Principle]
    ) -> tuple[Verdict, ...]:
        """One verdict per principle and order, principle by principle, AB before BA."""
        questions = self._questions(prompt, comparison, principles)
        if len(questions) == 1:
            return (await self._verdict(questions[0]),)
        return tuple(await run_together([self._verdict(one) for one in questions]))

    def _questions(
        self, prompt: Prompt, comparison: Comparison, principles: Sequence[Principle]
    ) -> list[Question[Any]]:
        own = self.row.principle
        about = self.settings, self.template, self.min_mass, self.engine.capabilities
        questions = []
        for principle in principles if own is None else (own,):
            for order in self._orders(comparison, principle):
                a, b = comparison.first, comparison.second
                if order is Order.BA:
                    a, b = b, a
                questions.append(Question(prompt, principle, order, a, b, *about))
        return questions

    def _orders(self, comparison: Comparison, principle: Principle) -> tuple[Order, ...]:
        if self.row.orders == "none":
            return (Order.NONE,)
        if self.orders == "both":
            return (Order.AB, Order.BA)
        # Drawn over the two ids without their order: a swapped comparison is the same question.
        one, other = sorted((comparison.first.id, comparison.second.id))
        shown_first = one if content_uniform(0, "order", one, other, principle.id) < 0.5 else other
        return (Order.AB,) if shown_first == comparison.first.id else (Order.BA,)

    async def _verdict(self, question: Question[Any]) -> Verdict:
        watch = self.watch
        if watch is None or watch.passed:
            return await self._ask(question)
        await watch.begin()
        verdict = None
        try:
            verdict = await self._ask(question)
        finally:
            watch.end(question.prompt.id, verdict)
        return verdict

    async def _ask(self, question: Question[Any]) -> Verdict:
        flow = self.row.flow(question)
        replies: list[Reply] | None = None
        calls: list[str] = []
        problem = reason = ""
        identity = self.engine.identity
        while True:
            try:
                requests = next(flow) if replies is None else flow.send(replies)
            except StopIteration as end:
                return self._made(question, end.value, calls, reason, problem)
            if len(requests) == 1:  # the common case, and `ask_all` would cost more than its gain
                answers = [await ask_one(self.engine, requests[0])]
            else:
                answers = await ask_all(self.engine, requests)
            replies = []
            for request, answer in zip(requests, answers, strict=True):
                seeds = request.seeds if isinstance(request, Generate) else _NO_SEED
                if isinstance(answer, CallFailed):
                    problem = problem or f"{answer.kind}: {answer.message}"
                    reason = FAILED_REASON
                    replies += [NO_REPLY] * len(seeds)
                    continue
                replies += answer
                for seed in seeds:
                    calls.append(request_key(identity, request, seed))
            for reply in replies:
                if reply.finish == "refusal":
                    reason = reason or REFUSED_REASON

    def _made(
        self,
        question: Question[Any],
        outcome: Outcome,
        calls: Sequence[str],
        reason: str,
        problem: str,
    ) -> Verdict:
        # No verdict rests on what did not come back, unless it can do without what was refused.
        spared = outcome.partial and reason == REFUSED_REASON
        if reason and not outcome.reason and not spared:
            outcome = Outcome(reason=reason, raw=outcome.raw)
        principle = question.principle.id
        logit, choice, scores = outcome.logit, outcome.choice, outcome.scores
        if logit is None and scores is not None and self.row.factor is not None:
            logit = self.row.factor(self.settings, principle) * (scores[0] - scores[1])
        if logit is not None and math.isnan(logit):
            logit = choice = scores = None
        if choice is None:
            choice = Choice.ABSTAIN if logit is None else choose(logit)
        return Verdict(
            judge=self.name,
            method=self.method,
            principle=principle,
            order=question.order,
            choice=choice,
            logit=logit,
            mass=outcome.mass,
            scores=scores,
            reason=outcome.reason or (UNREADABLE_REASON if choice is Choice.ABSTAIN else ""),
            raw=problem or outcome.raw,
            calls=() if problem else tuple(calls),
        )

    def asks(self, principle: Principle) -> list[Request]:
        """Return all that it would ask under a principle, about a stand-in for a comparison.

        What differs between two versions of a principle and is the same here reaches no prompt.
        """
        start = partial(self._rehearsal, TWO, principle, rehearsed=False)
        return rehearse(start, text=self.row.stand_in)[0]

    def _rehearsed(
        self, comparison: Comparison, can: frozenset[Capability] = frozenset()
    ) -> tuple[list[Request], Capability]:
        return rehearse(partial(self._rehearsal, comparison, can=can), text=self.row.stand_in)

    def _rehearsal(
        self,
        comparison: Comparison,
        principle: Principle = PRINCIPLE,
        *,
        can: frozenset[Capability] = frozenset(),
        rehearsed: bool = True,
    ) -> list[Flow]:
        questions = self._questions(PROMPT, comparison, [principle])
        return [
            self.row.flow(one._replace(min_mass=0.0, capabilities=can, rehearsed=rehearsed))
            for one in questions
        ]
