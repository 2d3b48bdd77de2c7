"""Whether work achieved anything: rows and readable verdicts, and how much of it failed."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rlaif.errors import TooManyFailed
from rlaif.judging.panel import NO_VERDICT, count_unread, failed_most
from rlaif.pipeline.item import judge_failures
from rlaif.records import Choice, Failure, Judgment
from rlaif.runs import Run, RunStatus
from rlaif.runs.messages import Message, MessageCounter

RETRY_RUN = "repeat the command with --retry-failed: only what failed is asked again"
"""What to do about calls that may succeed the next time, in a run."""

RETRY = "repeat the command: only what failed is asked again"
"""The same where the ledger alone says what is missing."""

_ANEW = "in another out, with reuse: [{this one}], which asks only what changed"
_REMEDIES = {
    "empty|refused?": "a retry gives the same blank or refused reply: raise max_tokens (reasoning "
    f"may use it up), or change the model or its template, {_ANEW}",
    "context-length|http-413|too-large": "a retry fails alike: lower max_tokens, leave long "
    f"prompts out, or choose a model with a longer context, {_ANEW}",
    "no-logprobs|label-tokens|thinking-judge": "a retry fails alike: set words: true under the "
    f"judge's method, or choose another model, {_ANEW}",
    "no-principle": f"no principle applies to these prompts: change applies_to or tags, {_ANEW}",
    "template|chat-template": "fix the template (templates:), or the prompts it cannot be filled "
    "in with, then {retry}",
    "not-recorded": "no model is asked here: rlaif relabel asks what the ledger does not hold",
    "out-of-memory": "choose a smaller max_batch, dtype or model, then {retry}",
    "http-40[13]": "set the key that api_key_env names, then {retry}",
    "http-404": "correct model and base_url, then {retry}",
    r"http-(?!408|409|425|429)4\d\d|bad-request|invalid-request": "set what the server "
    "names (options: omit, rename; words: true), then {retry}",
    "bad-.*|missing-(column|id)|duplicate-id": "correct the records that failures.jsonl names and "
    "repeat the command",
}
"""Kinds of failures that a mere retry cannot overcome, and what can."""


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


def check_run(found: RunStatus, most: float, *, retry: str = RETRY_RUN) -> None:
    """Check the share of failures of a finished run.

    Args:
        found: Its status.
        most: The largest share, of prompts or of the calls of one role, that is acceptable.
        retry: How to ask again what failed.

    Raises:
        TooManyFailed: The share is larger.
    """
    shares, messages = dict(found.failed_shares), found.messages
    failures = found.failures - found.removed
    if failures:
        shares["prompts"] = failures.total() / (failures.total() + found.rows)
        kind, count = failures.most_common(1)[0]
        words = next((one.message for one in messages if one.kind == kind), "see failures.jsonl")
        messages = (*messages, Message("prompts", kind, words, count))
    check_shares(shares, messages, most, retry=retry)


def check_verdicts(judgments: Iterable[Judgment], most: float) -> None:
    """Check the share of failed calls of each judge.

    Raises:
        TooManyFailed: A share is larger than ``most``.
    """
    judged = list(judgments)
    counter = MessageCounter(judge_failures(judged))
    made = Counter(
        f"judge:{verdict.judge}"
        for one in judged
        for verdict in one.verdicts
        if verdict.choice is not Choice.ABSTAIN
    )
    check_shares(counter.shares(made), tuple(counter.most_common()), most, retry=RETRY)


def check_samples(model: str, failures: Iterable[Failure], made: int, most: float) -> None:
    """Check the share of failed samples of a model.

    Raises:
        TooManyFailed: It is larger than ``most``.
    """
    counter = MessageCounter(one for one in failures if one.stage == "sample")
    messages = [replace(one, role=model) for one in counter.most_common()]
    shares = counter.shares({"student": made})
    check_shares(dict.fromkeys([model], shares.get("student", 0.0)), messages, most, retry=RETRY)


def check_shares(
    shares: Mapping[str, float], messages: Sequence[Message], most: float, *, retry: str
) -> None:
    """Check shares of failures by role.

    Args:
        shares: By role; ``prompts`` for whole prompts.
        messages: The most frequent failures, by role.
        most: The largest acceptable share.
        retry: How to ask again what failed.

    Raises:
        TooManyFailed: A share is larger; with the most frequent failure and what to do about it.
    """
    role, share = max(shares.items(), key=lambda item: item[1], default=("", 0.0))
    if share <= most:
        return
    what = "of the prompts" if role == "prompts" else f"of what was asked of {role}"
    of_role = (one for one in messages if one.role == role)
    top = max(of_role, key=lambda one: one.count, default=None)
    words = f"; most frequent failure: {top.count} × {top.kind}: {top.message}" if top else ""
    raise TooManyFailed(
        f"{share:.0%} {what} failed, more than max_failed_share: {most:g}{words}",
        hint=_remedy(top.kind, retry) if top else retry,
    )


def _remedy(kind: str, retry: str) -> str:
    for pattern, remedy in _REMEDIES.items():
        if re.fullmatch(pattern, kind):
            return remedy.replace("{retry}", retry)
    return retry


def why_failed(run: Run) -> str:
    """Return the most frequent failure of a run with its count, to be put behind a sentence."""
    messages = Counter(f"{failure.kind}: {failure.message}" for failure in run.failures())
    for row in run.rows():
        messages.update(f"{failure.kind}: {failure.message}" for failure in row.failures)
        for judgment in row.judgments:
            messages += count_unread(judgment.verdicts)
    return failed_most(messages)
