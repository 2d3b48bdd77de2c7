"""Constitutions as tested code: can a judge apply each principle to the principle's own examples?

An example says which of two responses the principle prefers. A judged principle is put to the judge
on each of its examples, in both orders; a rule is checked on both responses, without a judge.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif.auditing.gold import choice_of
from rlaif.auditing.measuring import Audited, build_judges
from rlaif.auditing.question import Question
from rlaif.config import load_config
from rlaif.config.evaluate import AuditConfig
from rlaif.constitution import Constitution, Example, Principle, check_rule, load_constitution
from rlaif.engines.ask import run_together
from rlaif.errors import GateRefused, InputError
from rlaif.evaluation.intervals import wilson
from rlaif.judging import judge_comparison
from rlaif.judging.panel import why_unread
from rlaif.pipeline.achieved import check_verdicts
from rlaif.records import Choice, Comparison, Judgment, Order, Prompt, Response
from rlaif.sessions.concurrent import run_sync
from rlaif.sessions.session import Session
from rlaif.sessions.shown import OnProgress, unseen

RULE = "(rule)"
"""In place of a judge's name: a rule is checked without one."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One example under one judge."""

    prompt: str
    choice: Choice
    """A: the better response was preferred. B: the worse. TIE, ABSTAIN: neither."""

    better_first: Choice | None
    """What was chosen when the better was shown first, A meaning the better; None without order."""

    worse_first: Choice | None


@dataclass(frozen=True, slots=True)
class Tested:
    """One principle under one judge."""

    principle: str
    judge: str
    tried: tuple[Tried, ...]

    @property
    def right(self) -> float:
        """Examples on which the better response was preferred; a tie counts ½."""
        return sum(_CREDIT[one.choice] for one in self.tried)

    @property
    def accuracy(self) -> float | None:
        """Share of examples, an abstention counting as wrong; None without examples."""
        return self.right / len(self.tried) if self.tried else None

    @property
    def stuck(self) -> int:
        """Examples on which the same place was chosen in both orders."""
        return sum(
            one.better_first is not None
            and one.worse_first is not None
            and one.better_first is one.worse_first.flipped()
            and one.better_first in (Choice.A, Choice.B)
            for one in self.tried
        )

    def to_json(self) -> dict[str, Any]:
        """Return the counts, and the accuracy with its Wilson interval."""
        ends = wilson(self.right, len(self.tried)) if self.tried else (None, None)
        return {
            "principle": self.principle,
            "judge": self.judge,
            "examples": len(self.tried),
            "right": self.right,
            "accuracy": self.accuracy,
            "low": ends[0],
            "high": ends[1],
            "stuck_on_place": self.stuck,
            "failed": [one.prompt for one in self.tried if one.choice is not Choice.A],
        }


_CREDIT = {Choice.A: 1.0, Choice.TIE: 0.5, Choice.B: 0.0, Choice.ABSTAIN: 0.0}


@dataclass(frozen=True, slots=True)
class TrialReport:
    """All principles under all judges."""

    constitution: str
    tested: tuple[Tested, ...]
    untested: tuple[str, ...]
    """Principles without examples."""

    nothing: str = ""
    """Why nothing was tested, or no verdict of a judge could be read; empty as a rule."""

    def below(self, least: float) -> list[Tested]:
        """Principles that a judge applies in fewer than this share of examples."""
        return [one for one in self.tested if one.accuracy is not None and one.accuracy < least]

    def check(self, least: float) -> None:
        """Refuse when any principle is below.

        Raises:
            GateRefused: Names principle and judge of each.
        """
        failed = [
            f"  {one.principle} by {one.judge}: {one.right:g} of {len(one.tried)} examples"
            for one in self.below(least)
        ]
        if failed:
            raise GateRefused(
                "\n".join([f"{self.constitution}: principles below {least:g}:", *failed]),
                hint="fix their words or examples, or choose a judge that can apply them",
            )


def try_constitution(
    source: str | Path,
    *,
    judge: str | Path | Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    preflight: bool = True,
    on_progress: OnProgress | None = None,
) -> TrialReport:
    """Test every principle on its own examples.

    Works in scripts and in notebooks (where an event loop is already running).

    Args:
        source: A constitution file, or the name of a shipped one.
        judge: An audit file or the same as a mapping, of which the judges and templates count; None
            tests rules alone.
        out: Where the ledger lies, so that repeating costs nothing; else ``out`` of the file.
        preflight: Whether the judges' servers are asked once before the first call, if the file
            does not switch it off.
        on_progress: Called as examples are judged.

    Raises:
        InputError: The constitution or the file cannot be used, or no folder is given.
        EngineMissing: A judge's model, extra or key is missing.
        TooManyFailed: More than ``max_failed_share`` of a judge's calls failed.
        KeyboardInterrupt: Stopped by a signal; what was asked is kept.
    """
    return run_sync(
        lambda: atry_constitution(
            source, judge=judge, out=out, preflight=preflight, on_progress=on_progress
        )
    )


async def atry_constitution(
    source: str | Path,
    *,
    judge: str | Path | Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    preflight: bool = True,
    on_progress: OnProgress | None = None,
) -> TrialReport:
    """The same as `try_constitution`, to be awaited."""
    constitution = load_constitution(source)
    tested = [_test_rule(rule) for rule in constitution.rules()]
    untested = tuple(p.id for p in constitution.principles if not p.examples)
    nothing = ""
    if judge is not None:
        switched_off = {} if preflight else {"preflight": False}
        settings = load_config(AuditConfig, judge, switched_off)
        folder = settings.out if out is None else Path(out)
        if folder is None:
            raise InputError("no folder for the ledger", hint="give --out DIR")
        asked, judgments = await _ask(constitution, settings, folder, on_progress or unseen)
        tested += asked
        nothing = why_unread([verdict for one in judgments for verdict in one.verdicts])
        if not nothing:
            check_verdicts(judgments, settings.max_failed_share)
    elif constitution.judged():
        untested = tuple(
            p.id for p in constitution.principles if not p.examples or p.kind == "judged"
        )
    order = {principle.id: place for place, principle in enumerate(constitution.principles)}
    tested = [one for one in tested if one.tried]
    tested.sort(key=lambda one: (one.judge, order[one.principle]))
    if not tested:
        nothing = "nothing was tested: no principle with examples is a rule" + (
            " or was put before a judge (give --judge)" if judge is None else " or a judged one"
        )
    return TrialReport(constitution.label, tuple(tested), untested, nothing)


async def _ask(
    constitution: Constitution, settings: AuditConfig, out: Path, on_progress: OnProgress
) -> tuple[list[Tested], list[Judgment]]:
    judged = tuple(p for p in constitution.judged() if p.examples)
    question = Question(constitution.label, constitution.fingerprint, constitution.judged())
    async with Session.of(settings) as session:
        judges = build_judges(
            session, settings.judges, question, orders="both", min_mass=settings.min_mass
        )
        await session.preflight.before(out, settings.reuse)
        session.open(out, reuse=settings.reuse)
        judgments: list[Judgment] = []
        tested = [
            one
            for judge in judges
            for one in await _try_all(judge, judged, judgments.append, on_progress)
        ]
        session.settle()
        return tested, judgments


async def _try_all(
    judge: Audited,
    principles: Sequence[Principle],
    keep: Callable[[Judgment], None],
    on_progress: OnProgress,
) -> list[Tested]:
    total, done = sum(len(principle.examples) for principle in principles), 0

    async def one(principle: Principle, example: Example) -> Tried:
        nonlocal done
        # The example is the question here, so it is not shown as an exemplar too.
        tried = await _try(judge, _without_example(principle, example), example, keep)
        done += 1
        on_progress(f"examples by {judge.name}", done, total)
        return tried

    tested = []
    for principle in principles:
        tried = await run_together([one(principle, example) for example in principle.examples])
        tested.append(Tested(principle.id, judge.name, tuple(tried)))
    return tested


async def _try(
    judge: Audited, principle: Principle, example: Example, keep: Callable[[Judgment], None]
) -> Tried:
    prompt = Prompt.build(example.prompt)
    better = Response.build(prompt.id, example.better, index=0, origin="example")
    worse = Response.build(prompt.id, example.worse, index=1, origin="example")
    judgment = await judge_comparison(
        prompt,
        Comparison(better, worse),
        judges=[(judge.judge, 1.0)],
        drawn=[principle],
        candidates=[principle],
    )
    keep(judgment)
    said = {verdict.order: verdict.content_choice() for verdict in judgment.verdicts}
    return Tried(example.prompt, choice_of(judgment), said.get(Order.AB), said.get(Order.BA))


def _without_example(principle: Principle, example: Example) -> Principle:
    others = tuple(one for one in principle.examples if one != example)
    return principle.model_copy(update={"examples": others})


def _test_rule(principle: Principle) -> Tested:
    assert principle.rule is not None, "a rule principle has a rule"
    tried = []
    for example in principle.examples:
        kept = check_rule(principle.rule, example.better)
        broken = not check_rule(principle.rule, example.worse)
        # Better must keep the rule and worse must break it; a tie tests nothing.
        choice = Choice.A if kept and broken else Choice.TIE if kept or broken else Choice.B
        tried.append(Tried(example.prompt, choice, None, None))
    return Tested(principle.id, RULE, tuple(tried))
