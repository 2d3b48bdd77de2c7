"""Whether a run achieved anything: a row, and a readable verdict where judges are configured."""

from collections import Counter

from rlaif.judging.panel import NO_VERDICT, count_unread, failed_most
from rlaif.records import Choice
from rlaif.runs import Run, RunStatus


def why_nothing(run: Run, found: RunStatus) -> str:
    """Return one line on why a finished run holds nothing of use; empty when it does.

    What earlier starts did counts, so repeating a finished run is a success. Verdicts of rules are
    no judge's, and where rules alone made the pairs no judge had to speak. A part of the input
    without a prompt has nothing to achieve.

    Raises:
        RunError: A file of the run is damaged.
    """
    if found.damaged or found.expected == 0:
        return ""
    if found.rows == 0:
        return "no prompt became a row" + why_failed(run)
    judges = {str(one["name"]) for one in run.manifest.config.get("judges") or ()}
    verdicts = (verdict for view in run.judgments() for verdict in view.judgment.verdicts)
    asked = (verdict for verdict in verdicts if verdict.judge in judges)
    if not judges or any(verdict.choice is not Choice.ABSTAIN for verdict in asked) or found.pairs:
        return ""
    if not found.judgments:
        return "no judge was asked: no prompt has two responses to compare" + why_failed(run)
    return NO_VERDICT + why_failed(run)


def why_too_many_failed(found: RunStatus, most: float) -> str:
    """Return one line when a larger share than ``most`` failed; empty when it did not.

    Args:
        found: The status of a finished run.
        most: The largest share, of prompts or of the calls of one role, that is acceptable.
    """
    failed = found.failed - found.removed.total()
    shares = dict(found.failed_shares)
    if failed:
        shares["prompts"] = failed / (failed + found.rows)
    role, share = max(shares.items(), key=lambda one: one[1], default=("", 0.0))
    if share <= most:
        return ""
    what = "of the prompts" if role == "prompts" else f"of what was asked of {role}"
    messages = [one for one in found.messages if role in ("prompts", one.role)]
    top = max(messages, key=lambda one: one.count, default=None)
    words = f"; most frequent failure: {top.count} × {top.kind}: {top.message}" if top else ""
    return f"{share:.0%} {what} failed, more than max_failed_share: {most:g}{words}"


def why_failed(run: Run) -> str:
    """Return the most frequent failure of a run with its count, to be put behind a sentence."""
    messages = Counter(f"{failure.kind}: {failure.message}" for failure in run.failures())
    for row in run.rows():
        messages.update(f"{failure.kind}: {failure.message}" for failure in row.failures)
        for judgment in row.judgments:
            messages += count_unread(judgment.verdicts)
    return failed_most(messages)
