"""Panels: several judges on one comparison, their disagreement, and why none gave a verdict."""

from collections import Counter
from collections.abc import Iterable, Sequence

from rlaif.constitution import Principle
from rlaif.engines.ask import run_together
from rlaif.judging.aggregate import Source, aggregate_verdicts, opinion_sources
from rlaif.judging.methods.rules import RULES_JUDGE, judge_rules
from rlaif.judging.protocol import Judge, sums_up
from rlaif.judging.reading import FAILED_REASON
from rlaif.judging.transforms import Soften, Transform, apply_transforms
from rlaif.judging.weights import weigh_principles
from rlaif.records import Choice, Comparison, Judgment, Prompt, Verdict
from rlaif.runs.text import one_line


async def judge_comparison(
    prompt: Prompt,
    comparison: Comparison,
    *,
    judges: Sequence[tuple[Judge, float]],
    drawn: Sequence[Principle],
    candidates: Sequence[Principle],
    rules: Sequence[Principle] = (),
) -> Judgment:
    """Put one comparison before all judges, side by side, and combine what they say.

    Args:
        prompt: What the responses answer.
        comparison: Two responses to it.
        judges: Each with its weight, > 0. Their names differ.
        drawn: The judged principles that speak about this comparison.
        candidates: All that could have been drawn; see `weigh_principles`.
        rules: Rule principles, each with its own weight.

    Raises:
        EngineUnavailable: A judge's model or server is down.
    """
    verdicts: list[Verdict] = list(judge_rules(rules, comparison))
    weights: dict[Source, float] = {(RULES_JUDGE, rule.id): rule.weight for rule in rules}
    transforms: dict[Source, Sequence[Transform]] = {}
    speaking = tuple(judges) if drawn else ()
    said = await run_together([judge.judge(prompt, comparison, drawn) for judge, _ in speaking])
    for some, (judge, weight) in zip(said, speaking, strict=True):
        verdicts.extend(some)
        own = weigh_principles(drawn, candidates, {name for _, name in opinion_sources(some)})
        for principle in drawn:
            source = judge.name, principle.id
            weights[source] = weight * own[principle.id]
            transforms[source] = judge.transforms(principle.id)
        for verdict in some:  # a judge that reads no principles speaks once for all of them
            weights.setdefault((judge.name, verdict.principle), weight * sum(own.values()))
    summed = [judge.name for judge, _ in speaking if sums_up(judge)]
    return aggregate_verdicts(
        comparison, verdicts, weights=weights, summed=summed, transforms=transforms
    )


def soften_disagreement(judgment: Judgment, *, above: float) -> Judgment:
    """Draw a preference towards ½ where the judges disagree.

    By the factor ``above / disagreement``, which is 1 at the limit, so nothing jumps there; it is
    on record. Judgments of fewer than two judges stay as they are.

    Args:
        judgment: Of a panel.
        above: The largest disagreement that changes nothing, in (0, 1].
    """
    if judgment.disagreement is None or judgment.disagreement <= above:
        return judgment
    return apply_transforms(judgment, [Soften(above / judgment.disagreement)])


_SHOWN = 300

NO_VERDICT = "no judge gave a readable verdict"


def why_unread(verdicts: Sequence[Verdict]) -> str:
    """Return one line when not one of these verdicts was read; empty when there are no verdicts."""
    if not verdicts or any(one.choice is not Choice.ABSTAIN for one in verdicts):
        return ""
    return NO_VERDICT + failed_most(count_unread(verdicts))


def count_unread(verdicts: Iterable[Verdict]) -> Counter[str]:
    """Count verdicts that abstain: by the server's words where a call failed, else by reason."""
    return Counter(
        (one.raw if one.reason == FAILED_REASON else "") or one.reason or "unknown"
        for one in verdicts
        if one.choice is Choice.ABSTAIN
    )


def failed_most(messages: Counter[str]) -> str:
    """Return the most frequent message with its count, to be appended to a sentence."""
    most = messages.most_common(1)
    return "".join(f"; most frequent failure: {n} × {one_line(text, _SHOWN)}" for text, n in most)
