"""Judged wins: a panel of judges compares a model's responses with the baseline's.

The same machinery as labels are made with: both orders, drawn principles, abstentions. So it has
the same faults, and a judge that made the labels a policy was trained on flatters that policy.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlaif.constitution import Constitution, HowMany, choose_principles
from rlaif.evaluation.measure import Measure, Measured
from rlaif.evaluation.wins import Match
from rlaif.judging import Judge, judge_comparison
from rlaif.records import Choice, Comparison, Judgment
from rlaif.sessions.concurrent import each

JUDGED_WINS = Measure(
    "wins/judges",
    "probability, by the judges, that the response is better than the baseline's",
    better="higher",
    kind="share",
    cannot_tell="who is right when the judges are not; abstentions are left out, not ties",
    even=0.5,
)
AT_EQUAL_LENGTH = Measure(
    "wins/judges/equal-length",
    "the same, predicted for responses as long as the baseline's",
    better="higher",
    kind="share",
    cannot_tell="much where one model is longer on nearly every prompt: it is extrapolated",
    of="prompt",
    even=0.5,
)
LENGTH_CONTROLLED = Measure(
    "wins/judges/length-controlled",
    "the same in the form of AlpacaEval 2, with the difficulty of each prompt",
    better="higher",
    kind="share",
    cannot_tell="much with few other models, whose wins are all that is known of difficulty; only "
    "this one compares with published rates, on the same prompts, baseline and judge",
    of="prompt",
    even=0.5,
)
POSITION_BIAS = Measure(
    "wins/judges/position-bias",
    "log-odds that the judges add to whatever is shown first",
    better="neither",
    kind="number",
    cannot_tell="anything unless both orders were asked and answered",
    even=0.0,
)


@dataclass(frozen=True, slots=True)
class Panel:
    """The judges of an evaluation."""

    judges: tuple[tuple[Judge, float], ...]
    """Each with its weight."""

    principles: HowMany = "one"
    """How many judged principles are asked about one match."""

    identity: Mapping[str, Any] = field(default_factory=dict)
    """Whatever can change a judgment, JSON-compatible: engines, methods, templates."""


@dataclass(frozen=True, slots=True)
class JudgedMatch:
    """A match and what the judges said; the model's response is the judgment's first."""

    match: Match
    judgment: Judgment | None
    """None when the two responses are word for word the same, so that no judge was asked, or when
    one of them is missing."""

    @property
    def preference(self) -> float | None:
        """P(the model's response is better); 0.5 for equal words, None without a judgment."""
        if self.judgment is not None:
            return self.judgment.preference
        before, after = self.match.before, self.match.after
        same = before is not None and after is not None and before.text == after.text
        return 0.5 if same else None


async def judge_matches(
    matches: Sequence[Match],
    constitution: Constitution,
    panel: Panel,
    *,
    seed: int,
    concurrency: int = 64,
    on_done: Callable[[], None] | None = None,
) -> list[JudgedMatch]:
    """Put every match before the judges, under principles drawn by content.

    Matches with a missing response, with two equal ones, or for whose prompt no judged principle
    speaks are not judged.

    Raises:
        EngineUnavailable: A judge's model or server is down.
    """

    async def one(match: Match) -> JudgedMatch:
        try:
            return JudgedMatch(match, await _judgment(match, constitution, panel, seed))
        finally:
            if on_done is not None:
                on_done()

    return await each(matches, one, concurrency=concurrency)


def measure_judged(judged: Sequence[JudgedMatch]) -> list[Measured]:
    """Return the preferences, then the position bias, by prompt and index."""
    preferences: dict[str, list[float | None]] = {}
    biases: dict[str, list[float | None]] = {}
    for item in judged:
        prompt_id = item.match.prompt.id
        preferences.setdefault(prompt_id, []).append(item.preference)
        if item.judgment is not None:
            biases.setdefault(prompt_id, []).append(item.judgment.position_bias)
    return [
        Measured(JUDGED_WINS, {key: tuple(row) for key, row in preferences.items()}),
        Measured(POSITION_BIAS, {key: tuple(row) for key, row in biases.items()}),
    ]


def explain_abstentions(model: str, judged: Sequence[JudgedMatch]) -> list[str]:
    """Return one line that counts abstentions by reason; nothing when no verdict abstained."""
    verdicts = [v for item in judged if item.judgment is not None for v in item.judgment.verdicts]
    reasons = Counter(v.reason or "unknown" for v in verdicts if v.choice is Choice.ABSTAIN)
    if not reasons:
        return []
    why = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    return [f"{model}: judges abstained in {reasons.total()} of {len(verdicts)} verdicts ({why})"]


async def _judgment(
    match: Match, constitution: Constitution, panel: Panel, seed: int
) -> Judgment | None:
    before, after = match.before, match.after
    if before is None or after is None or before.text == after.text:
        return None
    comparison = Comparison(after, before)
    tags = match.prompt.tags
    candidates = [p for p in constitution.judged() if p.weight > 0 and p.applies(tags)]
    drawn = choose_principles(
        candidates, how_many=panel.principles, seed=seed, subject=comparison.id
    )
    if not drawn:
        return None
    return await judge_comparison(
        match.prompt, comparison, judges=panel.judges, drawn=drawn, candidates=candidates
    )
