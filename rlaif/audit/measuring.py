"""Asking: every judge on every gold pair, the trial before it, and the repetitions after it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlaif.audit.gold import GoldPair, GoldSet
from rlaif.audit.judges import Audited
from rlaif.audit.outcome import choice_of
from rlaif.audit.question import Question
from rlaif.audit.repeat import repetition
from rlaif.judging import judge_comparison
from rlaif.pipeline.executor import run_all
from rlaif.records import Choice, Judgment, content_uniform
from rlaif.runs import Entry, Ledger

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how many pairs of it are done, and how many there are."""

TRIAL_PAIRS = 2
"""Pairs of every gold set that each judge is timed on before the audit starts."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one judge will take, from a timed trial on a few pairs of every gold set."""

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

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dictionary."""
        return asdict(self)


class Asker:
    """Judges gold pairs under one question, and keeps what it was told about it."""

    def __init__(
        self, question: Question, ledger: Ledger, *, concurrency: int, on_progress: OnProgress
    ) -> None:
        self._question = question
        self._ledger = ledger
        self._concurrency = concurrency
        self._on_progress = on_progress

    async def judge(
        self, judges: Sequence[Audited], pairs: Sequence[GoldPair], what: str
    ) -> list[Judgment]:
        """Put every pair before all of these judges together; judgments in the order of pairs.

        Raises:
            Interrupted: A signal arrived; what was asked is in the ledger.
            EngineUnavailable: A model or server is down.
        """
        found: dict[int, Judgment] = {}
        panel = [(one.judge, one.weight) for one in judges]

        async def one(item: tuple[int, GoldPair]) -> None:
            place, pair = item
            found[place] = await judge_comparison(
                pair.prompt,
                pair.comparison,
                judges=panel,
                drawn=self._question.drawn(pair.prompt, pair.comparison.id),
                candidates=self._question.candidates,
            )
            self._on_progress(what, len(found), len(pairs))

        await run_all(iter(enumerate(pairs)), one, concurrency=self._concurrency)
        return [found[place] for place in range(len(pairs))]

    async def trial(
        self, judge: Audited, sets: Sequence[GoldSet], *, repeats: int, repeat_pairs: int
    ) -> Estimate:
        """Time one judge on a few pairs of every set and say what all of them will take."""
        seen = self._asked()
        started = time.monotonic()
        calls = prompt = completion = 0.0
        price: float | None = 0.0
        tried = 0
        judged = 0.0
        for gold in sets:
            pairs = draw_pairs(gold, TRIAL_PAIRS)
            judgments = await self.judge([judge], pairs, f"trial of {judge.name}")
            entries = [entry for one in judgments for entry in self.entries(one)]
            again = (
                min(len(gold.pairs), repeat_pairs) * (repeats - 1) if judge.engine.sampled else 0
            )
            factor = (len(gold.pairs) + again) / len(pairs)
            calls += factor * len(entries)
            prompt += factor * sum(entry.prompt_tokens for entry in entries)
            completion += factor * sum(entry.completion_tokens for entry in entries)
            known = [entry.price for entry in entries if entry.price is not None]
            all_known = len(known) == len(entries)
            price = price + factor * sum(known) if price is not None and all_known else None
            tried += len(pairs)
            judged += len(gold.pairs) + again
        took = time.monotonic() - started
        asked = self._asked() - seen
        return Estimate(
            judge=judge.name,
            pairs=sum(len(gold.pairs) for gold in sets),
            calls=calls,
            prompt_tokens=prompt,
            completion_tokens=completion,
            price=price,
            minutes=took / tried * judged / 60.0 if asked else None,
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

    def entries(self, judgment: Judgment) -> list[Entry]:
        """The ledger's entries behind a judgment, each once."""
        keys = {key for verdict in judgment.verdicts for key in verdict.calls if key}
        found = [self._ledger.get(key) for key in sorted(keys)]
        return [entry for entry in found if entry is not None]

    def _asked(self) -> int:
        return sum(total.calls for total in self._ledger.totals())


def draw_pairs(gold: GoldSet, count: int) -> list[GoldPair]:
    """Draw pairs of a set by their content; more pairs are the same and more."""
    drawn = sorted(gold.pairs, key=lambda pair: content_uniform(0, "trial", pair.id))
    return drawn[:count]
