"""From verdicts to a judgment: one probability, and what stands behind it.

Verdicts of one judge under one principle make an *opinion*, a probability. Opinions are pooled
linearly: a weighted mean of probabilities, not of log-odds, because

- under ``choose: one`` the principle is drawn at random, and the mean over draws of what each
  says *is* the linear pool of all principles, so one drawn and all asked aim at the same label;
- a rule says 1 or 0, whose log-odds are infinite: in log-odds one rule would outvote everyone;
- one overconfident judge moves a mean of probabilities by its weight and no further.

A rubric is the exception: its propositions are parts of one opinion, a weighted sum, so one judge's
propositions are summed in log-odds first, weights relative to the mean of those asked, and enter
the pool together, with their weights added.

Nothing is guessed: an opinion that lacks one of its orders is missing, not half there, because a
single order carries the position bias; without an opinion the preference is None.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from rlaif.judging.methods import METHODS
from rlaif.judging.methods.rules import RULES_JUDGE
from rlaif.judging.position import LOGIT_CAP, cut, sigmoid, split_agreeing, split_orders
from rlaif.judging.transforms import Transform
from rlaif.records import Choice, Comparison, Judgment, Order, Verdict

Source = tuple[str, str]
"""A judge's name and a principle's id: where an opinion comes from."""

_POINTS = {Choice.A: 1.0, Choice.TIE: 0.5, Choice.B: 0.0}
_CERTAIN = 1e-15  # how close to 0 and 1 probabilities are taken for log-odds
_EVEN = 1e-12  # what rounding leaves of ½ when weights are summed in another order


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one judge thinks under one principle."""

    judge: str
    principle: str
    probability: float
    """That the comparison's first response is better, in [0, 1]."""

    bias: float | None
    """Log-odds it adds to what is shown first; None unless both orders gave a number."""

    method: str = ""
    logit: float | None = None
    """The probability's log-odds without cap, of a part of a sum; None after transforms."""


def aggregate_verdicts(  # noqa: PLR0913 - verdicts, and all that is done to them
    comparison: Comparison,
    verdicts: Sequence[Verdict],
    *,
    weights: Mapping[Source, float] | None = None,
    summed: Collection[str] = (),
    transforms: Mapping[Source, Sequence[Transform]] | None = None,
    of_judges: Mapping[str, Sequence[Transform]] | None = None,
    of_panel: Sequence[Transform] = (),
    logit_cap: float = LOGIT_CAP,
) -> Judgment:
    """Combine all verdicts on one comparison, in the order that `rlaif.judging.panel` defines.

    All that is done is recorded as transforms, the cap on log-odds where it changes anything (of
    propositions not each, but their sum); ``raw_preference`` is without any.

    Args:
        comparison: What was judged.
        verdicts: All verdicts on it. An order that has a verdict was asked for; if all verdicts of
            one asked-for order abstain, that opinion is missing.
        weights: Of opinions, ≥ 0, relative; 1 where none is given.
        summed: Judges whose propositions are summed; those of others are averaged.
        transforms: What is done to opinions, in order; nothing where none is given.
        of_judges: Judge's name to what is done to the pool of its opinions.
        of_panel: What is done to the pool of all judges, before rules enter it.
        logit_cap: > 0; infinity turns the cap off.
    """
    weights = weights or {}
    transforms = {source: some for source, some in (transforms or {}).items() if some}
    of_judges = {judge: some for judge, some in (of_judges or {}).items() if some}
    read = read_opinions(verdicts, logit_cap=logit_cap)
    opinions = tuple(_transformed(one, transforms.get(_source(one), ())) for one in read)
    times = _times(verdicts, weights, summed)
    pool = _Pool(weights, times, logit_cap, of_judges, of_panel)
    capped = pool.cuts(opinions) or any(
        v.logit is not None and abs(v.logit) > logit_cap and not _additive(v.method)
        for v in verdicts
    )
    uncapped = read_opinions(verdicts, logit_cap=math.inf) if capped else read
    preference = pool.preference(opinions)
    spoke = {opinion.judge for opinion in read} - {RULES_JUDGE}
    done = [f"{judge}: {_named(some)}" for judge, some in of_judges.items() if judge in spoke]
    done += [f"panel: {_named(of_panel)}"] if of_panel and spoke else []
    biases = [opinion.bias for opinion in opinions if opinion.bias is not None]
    return Judgment(
        first_id=comparison.first.id,
        second_id=comparison.second.id,
        preference=preference,
        raw_preference=_Pool(weights, pool.times, math.inf, {}, ()).preference(uncapped)
        if capped or transforms or done
        else preference,
        transforms=(
            *((f"cap-logit({logit_cap:g})",) if capped else ()),
            *(_on_record(read, transforms) if transforms else ()),
            *done,
        ),
        agreement=_agreement(preference, opinions, weights),
        position_bias=sum(biases) / len(biases) if biases else None,
        abstained=sum(verdict.choice is Choice.ABSTAIN for verdict in verdicts),
        verdicts=tuple(verdicts),
        disagreement=_disagreement(opinions, pool),
    )


def read_opinions(
    verdicts: Sequence[Verdict], *, logit_cap: float = LOGIT_CAP
) -> tuple[Opinion, ...]:
    """Return every opinion that the verdicts hold, by judge and principle; missing ones left out.

    Several verdicts of the same order (repetitions) are averaged first.
    """
    opinions = []
    for (judge, principle), orders in _spoken(verdicts).items():
        method = next(iter(orders.values()))[0].method
        part = _additive(method)
        probability, bias = _combine(orders, math.inf if part else logit_cap, method)
        logit = _mean_logit(orders) if part else None
        opinions.append(Opinion(judge, principle, probability, bias, method, logit))
    return tuple(opinions)


def opinion_sources(verdicts: Sequence[Verdict]) -> tuple[Source, ...]:
    """Return where the opinions that `read_opinions` finds come from."""
    return tuple(_spoken(verdicts))


def _spoken(verdicts: Sequence[Verdict]) -> dict[Source, dict[Order, list[Verdict]]]:
    """Verdicts that say something, by order; without sources that lack one of their orders."""
    by_source: dict[Source, dict[Order, list[Verdict]]] = {}
    for verdict in verdicts:
        orders = by_source.setdefault((verdict.judge, verdict.principle), {})
        said = orders.setdefault(verdict.order, [])
        if verdict.choice is not Choice.ABSTAIN:
            said.append(verdict)
    return {source: orders for source, orders in by_source.items() if all(orders.values())}


def _combine(
    orders: Mapping[Order, Sequence[Verdict]], logit_cap: float, method: str
) -> tuple[float, float | None]:
    """Return probability and bias: in log-odds where all orders have numbers, else in points."""
    split_both = split_agreeing if _agreeing(method) else split_orders
    logits: dict[Order, float] = {}
    for order, verdicts in orders.items():
        numbers = [v.content_logit() for v in verdicts]
        known = [cut(number, logit_cap) for number in numbers if number is not None]
        if len(known) == len(numbers):
            logits[order] = sum(known) / len(known)
    if len(logits) < len(orders):
        points = [
            sum(_probability(v, logit_cap) for v in verdicts) / len(verdicts)
            for verdicts in orders.values()
        ]
        return sum(points) / len(points), None
    if Order.AB in logits and Order.BA in logits:
        split = split_both(logits[Order.AB], logits[Order.BA], cap=logit_cap)
        return sigmoid(split.content), split.bias
    return sigmoid(sum(logits.values()) / len(logits)), None


def _mean_logit(orders: Mapping[Order, Sequence[Verdict]]) -> float | None:
    """The mean of content log-odds; None when a verdict has none."""
    logits = [v.content_logit() for verdicts in orders.values() for v in verdicts]
    known = [logit for logit in logits if logit is not None]
    return sum(known) / len(known) if len(known) == len(logits) else None


def _agreeing(method: str) -> bool:
    """Whether orders must prefer the same response to say anything."""
    return method in METHODS and METHODS[method].orders == "agreeing"


def _additive(method: str) -> bool:
    """Whether principles are parts of one opinion."""
    return method in METHODS and METHODS[method].additive


def _probability(verdict: Verdict, logit_cap: float) -> float:
    logit = verdict.content_logit()
    if logit is None:
        return _POINTS[verdict.content_choice()]
    return sigmoid(cut(logit, logit_cap))


@dataclass(frozen=True, slots=True)
class _Pool:
    """How opinions become one probability."""

    weights: Mapping[Source, float]
    times: Mapping[str, float]
    """Judge to what the weighted sum of its propositions is multiplied by; others' are averaged."""

    cap: float

    of_judges: Mapping[str, Sequence[Transform]]
    """Judge to what is done to the pool of its opinions."""

    of_panel: Sequence[Transform]
    """What is done to the pool of all judges, before rules enter it."""

    def preference(self, opinions: Sequence[Opinion]) -> float | None:
        """The weighted mean of what enters the pool, transformed as its judges and panel say."""
        if not self.of_judges and not self.of_panel:
            return _mean(self.voices(opinions))[1]
        judges: list[tuple[float, float | None]] = []
        for name in dict.fromkeys(one.judge for one in opinions if one.judge != RULES_JUDGE):
            weight, own = _mean(self.voices([one for one in opinions if one.judge == name]))
            judges.append((weight, _apply(self.of_judges.get(name, ()), own)))
        together, shared = _mean([(weight, own) for weight, own in judges if own is not None])
        rules = self.voices([one for one in opinions if one.judge == RULES_JUDGE])
        pooled = _apply(self.of_panel, shared)
        return _mean([*([] if pooled is None else [(together, pooled)]), *rules])[1]

    def voices(self, opinions: Sequence[Opinion]) -> list[tuple[float, float]]:
        """Weight and probability of what enters the pool: opinions, and sums of propositions."""
        voices = [
            (_weight(one, self.weights), one.probability)
            for one in opinions
            if not _additive(one.method)
        ]
        sums = self.sums(opinions)
        return [*voices, *((weight, sigmoid(cut(logit, self.cap))) for weight, logit in sums)]

    def cuts(self, opinions: Sequence[Opinion]) -> bool:
        """Whether a sum is beyond the cap."""
        return any(abs(logit) > self.cap for _, logit in self.sums(opinions))

    def sums(self, opinions: Sequence[Opinion]) -> list[tuple[float, float]]:
        """Weight and log-odds of every judge whose propositions are parts of one opinion."""
        parts: dict[str, list[tuple[float, float]]] = {}
        for one in opinions:
            if _additive(one.method):
                logit = _logit(one.probability) if one.logit is None else one.logit
                parts.setdefault(one.judge, []).append((_weight(one, self.weights), logit))
        sums = []
        for judge, some in parts.items():
            total = sum(weight for weight, _ in some)
            if total > 0.0:
                logit = sum(weight * logit for weight, logit in some)
                sums.append((total, logit * self.times.get(judge, 1.0 / total)))
        return sums


def _mean(voices: Sequence[tuple[float, float]]) -> tuple[float, float | None]:
    """Weight of all voices together and their mean; None without weight."""
    total = sum(weight for weight, _ in voices)
    if total <= 0.0:
        return 0.0, None
    mean = sum(weight * probability for weight, probability in voices) / total
    return total, min(1.0, max(0.0, mean))


def _apply(transforms: Sequence[Transform], probability: float | None) -> float | None:
    if probability is None:
        return None
    for transform in transforms:
        probability = transform.apply(probability)
    return probability


def _named(transforms: Sequence[Transform]) -> str:
    return ", ".join(str(transform) for transform in transforms)


def _times(
    verdicts: Sequence[Verdict], weights: Mapping[Source, float], summed: Collection[str]
) -> dict[str, float]:
    """Judge to 1 ÷ the mean weight of the propositions it was asked, silent ones included."""
    asked = {(v.judge, v.principle) for v in verdicts if v.judge in summed}
    own: dict[str, list[float]] = {}
    for source in sorted(asked):
        if weights.get(source, 1.0) > 0.0:
            own.setdefault(source[0], []).append(weights.get(source, 1.0))
    return {judge: len(some) / sum(some) for judge, some in own.items()}


def _disagreement(opinions: Sequence[Opinion], pool: _Pool) -> float | None:
    """Spread of what the judges think, each over its principles; None without two judges."""
    names = {one.judge for one in opinions if one.judge != RULES_JUDGE}
    if len(names) < 2:
        return None
    alone = replace(pool, of_panel=())
    pooled = [alone.preference([one for one in opinions if one.judge == name]) for name in names]
    known = [probability for probability in pooled if probability is not None]
    return max(known) - min(known) if len(known) > 1 else None


def _transformed(opinion: Opinion, transforms: Sequence[Transform]) -> Opinion:
    if not transforms:
        return opinion
    probability = _apply(transforms, opinion.probability)
    assert probability is not None, "an opinion has a probability"
    return replace(opinion, probability=probability, logit=None)


def _on_record(
    opinions: Sequence[Opinion], transforms: Mapping[Source, Sequence[Transform]]
) -> tuple[str, ...]:
    """What was done to whose opinions: to a judge's, or only to those under one principle."""
    done = [_named(transforms.get(_source(opinion), ())) for opinion in opinions]
    by_judge: dict[str, set[str]] = {}
    for opinion, text in zip(opinions, done, strict=True):
        by_judge.setdefault(opinion.judge, set()).add(text)
    lines: dict[str, None] = {}  # a set that keeps its order
    for opinion, text in zip(opinions, done, strict=True):
        same = len(by_judge[opinion.judge]) == 1
        if text:
            lines[f"{opinion.judge if same else '/'.join(_source(opinion))}: {text}"] = None
    return tuple(lines)


def _agreement(
    preference: float | None, opinions: Sequence[Opinion], weights: Mapping[Source, float]
) -> float | None:
    """Share of opinions on the side of the preference; one of exactly ½ counts half."""
    if preference is None:
        return None
    counted = [o.probability for o in opinions if _weight(o, weights) > 0.0]
    sides = [_side(probability) for probability in counted]
    for_first = sum(sides) / len(sides)
    if _side(preference) == 0.5:
        return max(for_first, 1.0 - for_first)
    return for_first if preference > 0.5 else 1.0 - for_first


def _side(probability: float) -> float:
    if abs(probability - 0.5) < _EVEN:
        return 0.5
    return 1.0 if probability > 0.5 else 0.0


def _logit(probability: float) -> float:
    inside = min(1.0 - _CERTAIN, max(_CERTAIN, probability))
    return math.log(inside) - math.log1p(-inside)


def _source(opinion: Opinion) -> Source:
    return opinion.judge, opinion.principle


def _weight(opinion: Opinion, weights: Mapping[Source, float]) -> float:
    return weights.get(_source(opinion), 1.0)
