"""Panels: several judges on one comparison, and what is made of their disagreement."""

from collections.abc import Sequence

from rlaif.constitution import Principle
from rlaif.engines.ask import run_together
from rlaif.judging.aggregate import Source, aggregate_verdicts, weigh_principles
from rlaif.judging.methods.rules import RULES_JUDGE, judge_rules
from rlaif.judging.protocol import Judge
from rlaif.judging.transforms import Soften, Transform, apply_transforms
from rlaif.records import Comparison, Judgment, Prompt, Verdict


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
    asked = tuple(judges) if drawn else ()
    said = await run_together([judge.judge(prompt, comparison, drawn) for judge, _ in asked])
    own = weigh_principles(drawn, candidates)
    for some, (judge, weight) in zip(said, asked, strict=True):
        verdicts.extend(some)
        for principle in drawn:
            source = judge.name, principle.id
            weights[source] = weight * own[principle.id]
            transforms[source] = judge.transforms(principle.id)
        for verdict in some:  # a judge that reads no principles speaks once for all of them
            weights.setdefault((judge.name, verdict.principle), weight * sum(own.values()))
    return aggregate_verdicts(comparison, verdicts, weights=weights, transforms=transforms)


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
