"""The work on one prompt, start to finish: sample, revise, compare, judge, pair.

Every executor runs this same code. It touches no disk: engines are recorded by the session,
and the finished row goes back to the caller.
"""

from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rlaif.constitution import Constitution, HowMany, Principle, choose_principles
from rlaif.engines import Engine, Sampling
from rlaif.engines.ask import run_together
from rlaif.errors import RenderError
from rlaif.generation import (
    ContrastSampler,
    Reviser,
    contrasted_principle,
    sample_responses,
)
from rlaif.judging import (
    Canary,
    Judge,
    Transform,
    canary_comparisons,
    judge_comparison,
    settle_judgments,
)
from rlaif.judging.relevance import Relevance, Relevant
from rlaif.pipeline.comparisons import choose_comparisons
from rlaif.pipeline.pairing import pair_judgments
from rlaif.records import (
    Comparison,
    Critique,
    Drop,
    Failure,
    Judgment,
    Prompt,
    Response,
    Revision,
    Row,
    content_id,
)

RENDER = "render"
"""The stage of a failure when a template cannot be filled in with a prompt."""


@dataclass(frozen=True, slots=True)
class Student:
    """The model whose responses are judged, and how it is sampled."""

    engine: Engine
    sampling: Sampling
    n: int
    system: str = ""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the plan decides about comparisons, principles and pairs."""

    comparisons: str
    principles: HowMany
    strategy: str
    min_margin: float
    max_length_ratio: float | None = None
    max_disagreement: float | None = None
    """Judgments on which judges disagree by more make no pair."""

    soften_above: float | None = None
    """Preferences on which judges disagree by more are drawn towards ½."""

    length_tiers: float | None = None
    refit: bool = False
    """Preferences become what strengths fitted to all judgments of the prompt say."""

    canary_share: float = 0.0
    """Known pairs per comparison."""


@dataclass(frozen=True, slots=True)
class PromptWork:
    """Everything one prompt needs. Call `row` once per prompt, concurrently as you like."""

    plan_id: str
    seed: int
    constitution: Constitution
    student: Student
    judges: tuple[tuple[Judge, float], ...]
    """Each with its weight."""

    choices: Choices
    relevance: Relevance | None = None
    """Finds out which principles apply to a prompt, before any is drawn."""

    calibration: tuple[Transform, ...] = ()
    """Of the panel as a whole."""

    reviser: Reviser | None = None
    contrast: ContrastSampler | None = None
    """Samples the student for and against principles, in place of plainly."""

    def row_id(self, prompt: Prompt) -> str:
        """The id of this prompt's row: prompt and plan, nothing else."""
        return content_id("row", self.plan_id, prompt.id, prompt.messages, prompt.tags)

    def carry(self, item: Prompt | Row) -> Coroutine[Any, Any, Row | Failure]:
        """Carry a prompt through all stages, or a finished row through judging and pairing."""
        return self.rejudge(item) if isinstance(item, Row) else self.row(item)

    async def row(self, prompt: Prompt) -> Row | Failure:
        """Carry one prompt through all stages.

        Returns:
            A Failure when not a single response could be had, or a template cannot be filled in
            with this prompt; otherwise a row, in which smaller troubles are kept as failures and
            every dropped thing has its reason.
        """
        try:
            return await self._row(prompt)
        except RenderError as problem:
            return _unrendered(prompt, problem)

    async def _row(self, prompt: Prompt) -> Row | Failure:
        sampled, failures = await self._sample(prompt)
        if not sampled:
            return _none_left(prompt, failures)
        responses, critiques, revisions, more = await self._revise(prompt, sampled)
        # Still without its id and all that `_rejudge` adds.
        row = Row("", prompt, responses, critiques, revisions, failures=(*failures, *more))
        return await self._rejudge(row)

    async def rejudge(self, row: Row) -> Row | Failure:
        """Judge and pair the responses of a finished row anew; nothing is sampled or revised.

        Returns:
            A Failure when a template cannot be filled in with this row.
        """
        try:
            return await self._rejudge(row)
        except RenderError as problem:
            return _unrendered(row.prompt, problem)

    async def _rejudge(self, row: Row) -> Row:
        judgments, canaries, dropped, failures = await self._judge(row.prompt, row.responses)
        choices = self.choices
        pairs, unpaired = pair_judgments(
            row.responses,
            judgments,
            strategy=choices.strategy,
            min_margin=choices.min_margin,
            max_disagreement=choices.max_disagreement,
            length_tiers=choices.length_tiers,
            seed=self.seed,
        )
        kept = tuple(failure for failure in row.failures if failure.stage != "judge")
        return Row(
            id=self.row_id(row.prompt),
            prompt=row.prompt,
            responses=row.responses,
            critiques=row.critiques,
            revisions=row.revisions,
            judgments=judgments,
            pairs=tuple(pairs),
            drops=(*dropped, *unpaired),
            failures=(*kept, *failures, *judge_failures((*judgments, *canaries))),
            canaries=canaries,
        )

    async def _sample(self, prompt: Prompt) -> tuple[tuple[Response, ...], tuple[Failure, ...]]:
        student = self.student
        if self.contrast is not None:
            return await self.contrast.sample(prompt, n=student.n)
        return await sample_responses(
            student.engine,
            prompt,
            n=student.n,
            sampling=student.sampling,
            seed=self.seed,
            system=student.system,
        )

    async def _revise(
        self, prompt: Prompt, drafts: Sequence[Response]
    ) -> tuple[
        tuple[Response, ...], tuple[Critique, ...], tuple[Revision, ...], tuple[Failure, ...]
    ]:
        if self.reviser is None:
            return tuple(drafts), (), (), ()
        done = await run_together([self.reviser.revise(prompt, draft) for draft in drafts])
        return (
            (*drafts, *(response for one in done for response in one.responses)),
            tuple(critique for one in done for critique in one.critiques),
            tuple(revision for one in done for revision in one.revisions),
            tuple(failure for one in done for failure in one.failures),
        )

    async def _judge(
        self, prompt: Prompt, responses: Sequence[Response]
    ) -> tuple[tuple[Judgment, ...], tuple[Judgment, ...], tuple[Drop, ...], tuple[Failure, ...]]:
        """Return judgments, judgments on canaries, what was not judged, and what failed before."""
        choices = self.choices
        comparisons, dropped = choose_comparisons(
            responses,
            strategy=choices.comparisons,
            seed=self.seed,
            max_length_ratio=choices.max_length_ratio,
        )
        constitution = self.constitution
        canaries = canary_comparisons(
            constitution.judged(), comparisons, share=choices.canary_share, seed=self.seed
        )
        judged = [p for p in constitution.judged() if p.applies(prompt.tags)]
        rules = [p for p in constitution.rules() if p.applies(prompt.tags)]
        relevant = Relevant(tuple(judged))
        if self.relevance is not None and comparisons:
            relevant = await self.relevance.choose(prompt, [p for p in judged if p.weight > 0.0])
        done = await run_together(
            [
                *(self._judgment(prompt, one, relevant.principles, rules) for one in comparisons),
                *(self._known(canary) for canary in canaries),
            ]
        )
        judgments = settle_judgments(
            done[: len(comparisons)],
            self.judges,
            soften_above=choices.soften_above,
            refit=choices.refit,
        )
        known = tuple(done[len(comparisons) :])
        return judgments, known, (*dropped, *relevant.dropped), relevant.failures

    async def _judgment(
        self,
        prompt: Prompt,
        comparison: Comparison,
        judged: Sequence[Principle],
        rules: Sequence[Principle],
    ) -> Judgment:
        return await judge_comparison(
            prompt,
            comparison,
            judges=self.judges,
            drawn=self._drawn(prompt, comparison, judged),
            candidates=judged,
            rules=rules,
            calibration=self.calibration,
        )

    def _drawn(
        self, prompt: Prompt, comparison: Comparison, judged: Sequence[Principle]
    ) -> tuple[Principle, ...]:
        """The principles that speak about a comparison; of a couple, the one it was sampled by."""
        if self.choices.comparisons != "contrast":
            return choose_principles(
                judged, how_many=self.choices.principles, seed=self.seed, subject=comparison.id
            )
        index = comparison.first.index
        one = contrasted_principle(judged, prompt, index, seed=self.seed)
        return () if one is None else (one,)

    async def _known(self, canary: Canary) -> Judgment:
        return await judge_comparison(
            canary.prompt,
            canary.comparison,
            judges=self.judges,
            drawn=(canary.principle,),
            candidates=(canary.principle,),
        )


def never_rendered(failures: Sequence[Failure]) -> RenderError:
    """What to raise when templates could be filled in with no prompt at all."""
    first, count = failures[0], len(failures)
    others = f", nor with any other of {count} prompts" if count > 1 else ""
    return RenderError(
        f"prompt {first.record_id}: {first.message}{others}",
        hint="let the template do without what prompts may lack: {% if conversation[1] %} …",
    )


def _unrendered(prompt: Prompt, problem: RenderError) -> Failure:
    where = f"{prompt.source}: " if prompt.source else ""
    return Failure(RENDER, prompt.id, "template", f"{where}{problem.message}")


def _none_left(prompt: Prompt, failures: Sequence[Failure]) -> Failure:
    first = failures[0]
    attempts = sum(failure.attempts for failure in failures)
    return Failure("sample", prompt.id, first.kind, first.message, attempts)


def judge_failures(judgments: Iterable[Judgment]) -> list[Failure]:
    """Return a failure for every verdict whose call failed."""
    failures = []
    for judgment in judgments:
        for verdict in judgment.verdicts:
            if verdict.reason == "failed":
                kind, _, message = verdict.raw.partition(": ")
                subject = f"{verdict.judge}/{verdict.principle}/{verdict.order.value}"
                failures.append(Failure("judge", judgment.id, kind, f"{subject}: {message}"))
    return failures
