"""Panels: several judges on one comparison, their disagreement, and why none gave a verdict.

What is done between replies and the exported label, in this order; each step that applies is on
the judgment's record, `Judgment.transforms`, in the same order:

1. a reply's log-odds are cut at the cap; both orders make an opinion
2. opinions: what the method asks for (SALMON divides by a variance)
3. the pool of each judge over its principles: its calibration, then its clamp
4. the pool of all judges: the panel's calibration; rules enter beside it
5. `soften_disagreement`
6. `rlaif.judging.transforms.refit_judgments` (Bradley–Terry)
7. where all who spoke are clamped, the clamp again after step 4 or 6 moved the label: it is last
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

from rlaif.constitution import Principle
from rlaif.engines.ask import run_together
from rlaif.judging.aggregate import Source, aggregate_verdicts, opinion_sources
from rlaif.judging.methods.rules import RULES_JUDGE, judge_rules
from rlaif.judging.protocol import Calibrated, Judge, sums_up
from rlaif.judging.reading import FAILED_REASON
from rlaif.judging.transforms import (
    Clamp,
    Soften,
    Transform,
    apply_transforms,
    refit_judgments,
)
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
    calibration: Sequence[Transform] = (),
) -> Judgment:
    """Put one comparison before all judges, side by side, and combine what they say.

    Args:
        prompt: What the responses answer.
        comparison: Two responses to it.
        judges: Each with its weight, > 0. Their names differ.
        drawn: The judged principles that speak about this comparison.
        candidates: All that could have been drawn; see `weigh_principles`.
        rules: Rule principles, each with its own weight.
        calibration: Of the panel as a whole.

    Raises:
        EngineUnavailable: A judge's model or server is down.
    """
    speaking = tuple(judges) if drawn else ()
    said = await run_together([judge.judge(prompt, comparison, drawn) for judge, _ in speaking])
    verdicts = [*judge_rules(rules, comparison), *(one for some in said for one in some)]
    return pool_verdicts(
        comparison,
        verdicts,
        judges=speaking,
        drawn=drawn,
        candidates=candidates,
        rules=rules,
        calibration=calibration,
    )


def pool_verdicts(  # noqa: PLR0913 - verdicts, and all that is done to them
    comparison: Comparison,
    verdicts: Sequence[Verdict],
    *,
    judges: Sequence[tuple[Judge, float]],
    drawn: Sequence[Principle],
    candidates: Sequence[Principle],
    rules: Sequence[Principle] = (),
    calibration: Sequence[Transform] = (),
    clamped: bool = True,
) -> Judgment:
    """Combine the verdicts of a panel: steps 1 to 4.

    Args:
        comparison: What was judged.
        verdicts: All verdicts on it.
        judges: Each with its weight.
        drawn: The judged principles that spoke about this comparison.
        candidates: All that could have been drawn; see `weigh_principles`.
        rules: Rule principles.
        calibration: Of the panel as a whole.
        clamped: False leaves the clamps out: what a calibration is fitted to, being before them.
    """
    weights: dict[Source, float] = {(RULES_JUDGE, rule.id): rule.weight for rule in rules}
    transforms: dict[Source, Sequence[Transform]] = {}
    for judge, weight in judges:
        some = [verdict for verdict in verdicts if verdict.judge == judge.name]
        own = weigh_principles(drawn, candidates, {name for _, name in opinion_sources(some)})
        for principle in own:
            source = judge.name, principle
            weights[source] = weight * own[principle]
            done = judge.transforms(principle)
            transforms[source] = [one for one in done if not isinstance(one, Clamp)]
        for verdict in some:  # a judge that reads no principles speaks once for all of them
            weights.setdefault((judge.name, verdict.principle), weight * sum(own.values()))
    of_judges = {
        judge.name: [
            *(judge.calibration if isinstance(judge, Calibrated) else ()),
            *(_clamps(judge) if clamped else ()),
        ]
        for judge, _ in judges
    }
    judgment = aggregate_verdicts(
        comparison,
        verdicts,
        weights=weights,
        summed=[judge.name for judge, _ in judges if sums_up(judge)],
        transforms=transforms,
        of_judges=of_judges,
        of_panel=calibration,
    )
    return clamp_again(judgment, judges) if calibration and clamped else judgment


def _clamps(judge: Judge) -> list[Clamp]:
    """The clamp of a judge, which is the same under every principle; empty without one."""
    return [one for one in judge.transforms("") if isinstance(one, Clamp)]


def settle_judgments(
    judgments: Sequence[Judgment],
    judges: Sequence[tuple[Judge, float]],
    *,
    soften_above: float | None = None,
    refit: bool = False,
) -> tuple[Judgment, ...]:
    """Do what is done to all judgments of a prompt together: steps 5 to 7.

    Args:
        judgments: Of all comparisons of one prompt.
        judges: Those who gave them.
        soften_above: See `soften_disagreement`; None leaves it out.
        refit: Whether Bradley–Terry strengths replace them.
    """
    if soften_above is not None:
        judgments = [soften_disagreement(one, above=soften_above) for one in judgments]
    if refit:
        judgments = [clamp_again(one, judges) for one in refit_judgments(judgments)]
    return tuple(judgments)


def clamp_together(label: float, judges: Sequence[Judge]) -> float:
    """Return a label as it is once `clamp_again` has seen that all these judges spoke."""
    clamp = _widest(judges)
    return label if clamp is None else clamp.apply(label)


def _widest(judges: Sequence[Judge]) -> Clamp | None:
    """The widest of the clamps; None where one judge has none."""
    each = [_clamps(judge) for judge in judges]
    return min(chain(*each), key=lambda one: one.low) if each and all(each) else None


def clamp_again(judgment: Judgment, judges: Sequence[tuple[Judge, float]]) -> Judgment:
    """Keep a label in the bounds of all who spoke, the widest of them; a rule has none."""
    spoke = {one.judge for one in judgment.verdicts if one.choice is not Choice.ABSTAIN}
    known = {judge.name: judge for judge, _ in judges}
    if not spoke <= known.keys():
        return judgment
    clamp = _widest([known[name] for name in sorted(spoke)])
    return judgment if clamp is None else apply_transforms(judgment, [clamp])


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
