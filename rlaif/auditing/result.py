"""Results of an audit as values: what a judge showed on each gold set, and what it cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlaif.auditing.gold import Outcome
from rlaif.auditing.statistics.accuracy import (
    Accuracy,
    measure_accuracy,
    measure_kappa,
    measure_tie_agreement,
)
from rlaif.auditing.statistics.consistency import Position, Triads, measure_position, measure_triads
from rlaif.auditing.statistics.label_calibration import Trial
from rlaif.auditing.statistics.length import fit_log_odds, fit_picks
from rlaif.auditing.statistics.reliability import Reliability, measure_reliability
from rlaif.auditing.statistics.silence import Mass, Silence, measure_mass, measure_silence
from rlaif.evaluation.intervals import Figure, bootstrap_figure, mean_of
from rlaif.judging.gate import AUDIT_FORMAT
from rlaif.records import Choice, Judgment
from rlaif.records.plain import Plain, plain_fields
from rlaif.runs import Entry

Lookup = Callable[[str], Entry | None]
"""From a call's key to its entry in the ledger."""


@dataclass(frozen=True, slots=True)
class Cost(Plain):
    """Per pair that was judged: an abstention costs as much as an answer."""

    pairs: int
    labels: int
    """Pairs that have a preference."""

    calls: Figure
    prompt_tokens: float
    completion_tokens: float
    price: float | None
    """Mean price of a pair, in the currency of the price list; None when a call has none."""

    price_per_label: float | None
    """The same, abstentions paid for by the pairs that have a preference."""


def entries_behind(judgment: Judgment, lookup: Lookup) -> list[Entry]:
    """Return the ledger's entries behind a judgment's verdicts, each once."""
    keys = {key for verdict in judgment.verdicts for key in verdict.calls if key}
    return [entry for entry in map(lookup, sorted(keys)) if entry is not None]


def measure_cost(outcomes: Sequence[Outcome], lookup: Lookup, *, seed: int) -> Cost | None:
    """Add up the calls behind every pair's verdicts; None without pairs."""
    if not outcomes:
        return None
    calls: list[float] = []
    prompt = completion = 0
    prices: list[float | None] = []
    for outcome in outcomes:
        entries = entries_behind(outcome.judgment, lookup)
        calls.append(float(len(entries)))
        prompt += sum(entry.prompt_tokens for entry in entries)
        completion += sum(entry.completion_tokens for entry in entries)
        prices.extend(entry.price for entry in entries)
    labels = sum(outcome.choice is not Choice.ABSTAIN for outcome in outcomes)
    known = [price for price in prices if price is not None]
    price = sum(known) if known and len(known) == len(prices) else None
    figure = bootstrap_figure(mean_of(calls), [o.cluster for o in outcomes], seed=seed)
    assert figure is not None, "there are outcomes"
    return Cost(
        pairs=len(outcomes),
        labels=labels,
        calls=figure,
        prompt_tokens=prompt / len(outcomes),
        completion_tokens=completion / len(outcomes),
        price=None if price is None else price / len(outcomes),
        price_per_label=None if price is None or labels == 0 else price / labels,
    )


CANNOT_TELL: Mapping[str, str] = {
    "accuracy": "whether gold is right, or is about what your constitution asks. One crowd vote "
    "per pair caps what any judge can reach; pairs with abstentions are not in it.",
    "tie_agreement": "anything about a judge that reads log-odds: it practically never ties.",
    "kappa": "which of the two is wrong; it also falls when one label is much more common.",
    "alpha": "whether the judges agree because they are right or because they share a flaw.",
    "position": "whether a consistent judge is good: always picking the longer is consistent.",
    "length_log_odds": "a cause: whatever goes with length (detail, hedging, lists) counts as it.",
    "length_picks": "the same; and it is smaller than in log-odds where picks are noisy.",
    "silence": "whether an abstention was wise.",
    "reliability": "calibration under another constitution, or on another kind of prompt; nor "
    "errors that cancel within a bin. The interval of the calibration error errs on the wide side.",
    "stability": "whether the stable choice is right; repetition does not move a fixed bias.",
    "triads": "which of the three verdicts is wrong; 0 only says that an order exists.",
    "mass": "what the rest of the probability would have said.",
    "cost": "time and money on other hardware or at other prices; failed calls are not in it.",
}
"""For every statistic, what it cannot tell."""


@dataclass(frozen=True, slots=True)
class SetResult(Plain):
    """One judge on one gold set. None: could not be measured."""

    accuracy: Accuracy
    categories: Mapping[str, Accuracy]
    """Accuracy by the category of the pairs; empty where there is one only."""

    tie_agreement: Figure | None
    kappa: Figure | None
    position: Position
    length_log_odds: Figure | None
    """Log-odds per doubling of length, gold held fixed, from the judge's log-odds."""

    length_picks: Figure | None
    """The same from its picks."""

    silence: Silence
    reliability: Reliability | None
    triads: Triads | None
    mass: Mass | None
    cost: Cost | None
    stability: Figure | None = None
    """None for a judge that does not sample: asked again, it gives the same verdict."""


@dataclass(frozen=True, slots=True)
class JudgeResult(Plain):
    """One judge on all gold sets."""

    fingerprint: str
    method: str
    engine: Mapping[str, Any]
    templates: Mapping[str, str]
    sets: Mapping[str, SetResult]
    calibration: Mapping[str, Any] | str = ""
    """What was fitted, or why nothing was."""

    applied: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """With ``relevance``: principle to how often it was found to apply (``relevant``) and not to
    (``irrelevant``), over prompts (model) or verdicts (label)."""

    label_calibration: Trial | None = None
    """Exported labels before and after it, on prompts not fitted on; also where it was refused."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything an audit measured. ``to_json`` is what audit.json holds."""

    question: str
    """``name@fingerprint`` of what was asked."""

    principles: tuple[str, ...]
    seed: int
    limit: int | None
    orders: str
    gold: Mapping[str, Mapping[str, Any]]
    """Gold set to what was read of it."""

    longer: Mapping[str, Accuracy]
    """Gold set to the accuracy of always picking the longer response."""

    judges: Mapping[str, JudgeResult]
    """With several judges, the panel of all of them too, as ``panel``."""

    alpha: Mapping[str, Figure | None]
    """Gold set to Krippendorff's α among the judges; empty for one judge."""

    notices: tuple[str, ...] = ()
    nothing: str = ""
    """Why nothing was measured, with the most frequent failure; empty when something was."""

    def to_json(self) -> dict[str, Any]:
        """Return what audit.json holds."""
        return {
            "format": AUDIT_FORMAT,
            **plain_fields(self),
            "cannot_tell": dict(CANNOT_TELL),
        }


def measure_set(
    outcomes: Sequence[Outcome],
    lookup: Lookup,
    *,
    seed: int,
    stability: Figure | None = None,
) -> SetResult:
    """Compute every statistic of one judge on one gold set.

    Args:
        outcomes: One per gold pair.
        lookup: The ledger, for the cost.
        seed: Of all intervals.
        stability: Measured apart, because it takes more calls.
    """
    by_category: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_category.setdefault(outcome.category or "none", []).append(outcome)
    categories = {name: measure_accuracy(some) for name, some in sorted(by_category.items())}
    return SetResult(
        accuracy=measure_accuracy(outcomes),
        categories=categories if len(categories) > 1 else {},
        tie_agreement=measure_tie_agreement(outcomes),
        kappa=measure_kappa(outcomes, seed=seed),
        position=measure_position(outcomes, seed=seed),
        length_log_odds=fit_log_odds(outcomes),
        length_picks=fit_picks(outcomes),
        silence=measure_silence(outcomes),
        reliability=measure_reliability(outcomes, seed=seed),
        triads=measure_triads(outcomes),
        mass=measure_mass(outcomes),
        cost=measure_cost(outcomes, lookup, seed=seed),
        stability=stability,
    )
