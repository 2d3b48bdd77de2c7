"""Outcomes and judgments with one obvious default each."""

from collections.abc import Sequence

from rlaif.auditing import Outcome
from rlaif.records import Choice, Judgment, Order, Verdict


def verdict(
    order: Order = Order.NONE,
    logit: float | None = None,
    *,
    choice: Choice | None = None,
    principle: str = "p",
    judge: str = "j",
    mass: float | None = None,
    reason: str = "",
) -> Verdict:
    """One verdict, in the order shown; the choice follows the log-odds unless it is given."""
    if choice is None:
        choice = Choice.ABSTAIN if logit is None else Choice.A if logit > 0 else Choice.B
    return Verdict(judge, "pairwise", principle, order, choice, logit, mass, reason=reason)


def outcome(
    preference: float | None,
    gold: str = "a",
    *,
    cluster: str = "c",
    lengths: tuple[int, int] = (10, 10),
    verdicts: Sequence[Verdict] = (),
    ids: tuple[str, str] = ("1", "2"),
) -> Outcome:
    """One outcome whose judgment has this preference."""
    judgment = Judgment(
        *ids,
        preference=preference,
        raw_preference=preference,
        transforms=(),
        agreement=None,
        position_bias=None,
        abstained=0,
        verdicts=tuple(verdicts),
    )
    return Outcome(cluster, Choice(gold), lengths, judgment)
