"""Judges as a scorer: one number per response, for PPO, RLOO, GRPO and trainers elsewhere.

Two ways, by what the judges can be asked:

- *against nothing* (pointwise, rubric and reward judges): a response's **strength** in log-odds,
  so that the difference of two strengths is what the judge thinks of the pair,

      P(a better than b) = σ(s_a − s_b),      s = scale · score / T

  with the method's own scale and, for a calibrated judge, its temperature. Principles and judges
  are averaged by their weights; propositions of a rubric are summed, as in labels. Direct RLAIF
  (Lee et al. 2023, arXiv 2309.00267) with a unit.
- *against a reference* (every method, a whole panel in both orders): P(better than the reference),
  in [0, 1], as in any judgment.

All responses to a prompt are measured by the same principles: which ones speak is drawn by prompt.
A response of which one opinion is missing is unscored, because a mean without that opinion would be
on another scale; why is said in the column ``why`` where the caller gives one.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif.config.reward import JudgedConfig
from rlaif.constitution import (
    HowMany,
    Principle,
    choose_principles,
    count_asked,
    load_constitution,
)
from rlaif.engines.ask import run_together
from rlaif.errors import ConfigError
from rlaif.judging import (
    Judge,
    judge_comparison,
    weigh_principles,
)
from rlaif.judging.protocol import ScoresAlone, sums_up
from rlaif.records import Comparison, Message, Prompt, Response, Verdict
from rlaif.runs import Ledger
from rlaif.sessions.session import Session
from rlaif.training.scorers import finish

Scored = tuple[float | None, str]
"""A score, or None and why there is none."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Judges with their weights, and what they are asked."""

    judges: tuple[tuple[Judge, float], ...]
    candidates: tuple[Principle, ...]
    how_many: HowMany = "all"
    seed: int = 0
    against_reference: bool = False

    async def score(self, prompt: Prompt, text: str, reference: str | None) -> Scored:
        """Score one response.

        Raises:
            EngineUnavailable: A judge's model or server is down.
        """
        applicable = [one for one in self.candidates if one.applies(prompt.tags)]
        drawn = choose_principles(
            applicable,
            how_many=self.how_many,
            seed=self.seed,
            subject=prompt.id,
        )
        if not drawn:
            return None, "no principle of the constitution applies to this prompt"
        response = Response.build(prompt.id, text, index=0)
        if not self.against_reference:
            return await self._strength(prompt, response, drawn, applicable)
        if reference is None:
            return None, "no reference to compare with: the column 'reference' is empty"
        if reference == text:
            return 0.5, ""
        return await self._preference(prompt, response, reference, drawn, applicable)

    async def _strength(
        self,
        prompt: Prompt,
        response: Response,
        drawn: Sequence[Principle],
        applicable: Sequence[Principle],
    ) -> Scored:
        # A judge speaks of two responses; both are this one, and the ledger asks once.
        twice = Comparison(response, response)
        said = await run_together([judge.judge(prompt, twice, drawn) for judge, _ in self.judges])
        own = weigh_principles(drawn, applicable)
        together = sum(own.values())
        total = weights = 0.0
        for verdicts, (judge, judge_weight) in zip(said, self.judges, strict=True):
            times = len(verdicts) if sums_up(judge) else 1
            for verdict in verdicts:
                if verdict.scores is None:
                    return None, _missing(verdict)
                weight = judge_weight * own.get(verdict.principle, together)
                total += times * weight * strength(judge, verdict.principle, verdict.scores[0])
                weights += weight
        return total / weights, ""

    async def _preference(
        self,
        prompt: Prompt,
        response: Response,
        reference: str,
        drawn: Sequence[Principle],
        applicable: Sequence[Principle],
    ) -> Scored:
        judgment = await judge_comparison(
            prompt,
            Comparison(response, Response.build(prompt.id, reference, index=1)),
            judges=self.judges,
            drawn=drawn,
            candidates=applicable,
        )
        silent = [one for one in judgment.verdicts if one.reason]
        if silent or judgment.preference is None:
            return None, _missing(silent[0]) if silent else "every verdict abstained"
        return judgment.preference, ""


def strength(judge: Judge, principle: str, score: float) -> float:
    """Return the log-odds strength behind a judge's own score of a response.

    Raises:
        ValueError: The judge's method does not score responses by themselves.
    """
    if not isinstance(judge, ScoresAlone):
        raise ValueError(f"{judge.method} does not score a response by itself")
    return judge.strength(principle, score)


class JudgedScorer:
    """A panel behind its ledger, as a scorer. Open with `open_judged`; close with `aclose`.

    Attributes:
        panel: The judges.
        recorded: Their engines, each behind the ledger; they count what was asked.
        ledger: Every reply of a judge.
    """

    __name__ = "judged"

    def __init__(
        self,
        panel: Panel,
        session: Session,
        ledger: Ledger,
        *,
        concurrency: int,
    ) -> None:
        self.panel = panel
        self.recorded = session.recorded
        self.ledger = ledger
        self._free = asyncio.Semaphore(concurrency)
        self._session = session

    async def __call__(
        self, prompts: list[list[Message]], responses: list[str], **columns: list[Any]
    ) -> list[float | None]:
        """Score responses side by side.

        Args:
            prompts: Conversations that end with a user turn.
            responses: One text each.
            columns: ``tags`` choose principles, ``reference`` is compared with, and to each list of
                ``why`` the reason is added for which a response stays unscored.
        """
        empty: list[Any] = [None] * len(responses)
        tags = columns.get("tags") or empty
        references = columns.get("reference") or empty
        found = await run_together(
            [
                self._one(prompt, text, tuple(own or ()), reference)
                for prompt, text, own, reference in zip(
                    prompts, responses, tags, references, strict=True
                )
            ]
        )
        for place, (score, why) in enumerate(found):
            if score is None and "why" in columns:
                columns["why"][place].append(why)
        return [score for score, _ in found]

    async def _one(
        self, messages: list[Message], text: str, tags: tuple[str, ...], reference: str | None
    ) -> Scored:
        try:
            prompt = Prompt.build(messages, tags=tags)
        except ValueError as problem:
            return None, str(problem)
        async with self._free:
            return await self.panel.score(prompt, text, reference)

    async def aclose(self) -> None:
        """Write what is left to the ledger and close it and the engines."""
        await self._session.aclose()


def open_judged(
    config: JudgedConfig, *, rank: int = 0, give_up: bool = True, ask_first: bool = False
) -> JudgedScorer:
    """Open the judges and their ledger.

    Args:
        config: What a training or server file says under ``judged``.
        rank: Of this process among several that train together; others than 0 keep a ledger of
            their own, because only one may write.
        give_up: Whether the judges' ``give_up_after`` and ``preflight`` count.
        ask_first: Whether servers are asked before a new folder is created, and not only before the
            first score.

    Raises:
        InputError: Constitution, templates or settings cannot be used.
        EngineMissing: A model, extra, key or capability is missing.
        RunLocked: Another process writes to this ledger.
    """
    folder = config.out if rank == 0 else config.out / f"rank-{rank}"
    session = Session(
        config.templates,
        give_up_after=config.give_up_after if give_up else 0,
        preflight=config.preflight and give_up and rank == 0,  # one process asks for all
    )
    try:
        panel = build_panel(session, config)
        if ask_first:
            finish(_ask_servers(session, config, folder))
        ledger = session.open(folder, reuse=config.reuse)
    except BaseException:
        finish(session.aclose())
        raise
    return JudgedScorer(panel, session, ledger, concurrency=config.concurrency)


async def _ask_servers(session: Session, config: JudgedConfig, folder: Path) -> None:
    await session.preflight.before(folder, config.reuse)
    await session.disconnect()  # scores may be asked for in another event loop


def build_panel(session: Session, config: JudgedConfig) -> Panel:
    """Open the judges; nothing is written or asked.

    Raises:
        InputError: Constitution, templates or settings cannot be used.
        EngineMissing: A model, extra, key or capability is missing.
    """
    constitution = load_constitution(config.constitution)
    candidates = tuple(one for one in constitution.judged() if one.weight > 0.0)
    if not candidates:
        raise ConfigError(
            f"constitution {constitution.name!r}: none of its principles needs a judge, so there "
            "is nothing to ask",
            hint="score its rules with `rules` in place of `judged`",
        )
    judges = session.judges(
        config.judges,
        asked=count_asked(candidates, config.principles.how_many),
        orders=config.orders,
        min_mass=config.min_mass,
        principles=[principle.id for principle in candidates],
    )
    return Panel(
        tuple(judge.weighted for judge in judges),
        candidates,
        how_many=config.principles.how_many,
        seed=config.seed,
        against_reference=config.against == "reference",
    )


def _missing(verdict: Verdict) -> str:
    why = f"{verdict.reason}: {verdict.raw}" if verdict.raw else verdict.reason
    return f"the judge {verdict.judge!r} abstained under {verdict.principle!r} ({why:.300})"
