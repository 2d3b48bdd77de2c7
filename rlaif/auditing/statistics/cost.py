"""Cost: what one label takes, from the ledger, also when nothing was asked again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlaif.auditing.gold import Outcome
from rlaif.auditing.statistics.figure import bootstrap_figure, mean_of
from rlaif.evaluation.intervals import Figure
from rlaif.records import Choice, Judgment
from rlaif.records.plain import Plain
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
