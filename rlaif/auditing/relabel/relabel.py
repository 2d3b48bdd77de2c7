"""Relabel: a run's responses judged by another constitution, and what that changed.

Only questions that the old run's ledger cannot answer are asked. Every flipped label is
attributed to the principle whose contribution moved most towards the new side.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlaif.auditing.gold import side
from rlaif.auditing.principles.explain import OpinionWeights, contributions
from rlaif.auditing.principles.reach import find_reached, prompts_of
from rlaif.auditing.relabel.rejudge import Rejudged, rejudge
from rlaif.constitution import constitution_from_mapping, diff_constitutions, load_constitution
from rlaif.pipeline.build import run_settings
from rlaif.records import Judgment
from rlaif.records.plain import Plain, plain_fields
from rlaif.runs import JudgmentView, Run, open_run
from rlaif.sessions.concurrent import run_sync
from rlaif.sessions.shown import OnProgress
from rlaif.templates import TemplateSet

EXAMPLES = 3
"""Flips kept per principle, to be shown."""


@dataclass(frozen=True, slots=True)
class Flip:
    """One label that changed sides."""

    prompt: str
    chosen: str
    """Text of the response that is preferred now."""

    rejected: str
    before: float
    """P(the now preferred one is better) before, at most ½."""

    after: float


@dataclass(slots=True)
class Flips:
    """What changed between the labels of two runs over the same responses."""

    compared: int = 0
    """Comparisons that both runs judged."""

    same: int = 0
    """On the same side as before, or without preference as before."""

    flipped: int = 0
    """From one response to the other."""

    gained: int = 0
    """From a tie or no preference to one."""

    lost: int = 0
    """From a preference to a tie or none."""

    causes: Counter[str] = field(default_factory=Counter)
    """Principle to the flips it caused."""

    examples: dict[str, list[Flip]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return all counts, and some of the flips of each principle."""
        return plain_fields(self) | {"causes": dict(self.causes.most_common())}


@dataclass(frozen=True, slots=True)
class Edit(Plain):
    """One edit of a judged principle."""

    principle: str
    field: str
    reaches: tuple[str, ...]
    """Judges that are shown it; without any, no label changes because of it."""


@dataclass(frozen=True, slots=True)
class Relabelled:
    """A new run, and how its labels differ from the old one's."""

    rejudged: Rejudged
    flips: Flips
    unchanged_principles: int
    principles: int
    edits: tuple["Edit", ...] = ()
    """Edits of words, and the judges that are shown them."""


def relabel(
    run: str | Path,
    *,
    constitution: str | Path,
    out: str | Path,
    preflight: bool = True,
    retry_failed: bool = False,
    on_progress: OnProgress | None = None,
) -> Relabelled:
    """Judge a run's responses by another constitution.

    Works in scripts and in notebooks (where an event loop is already running).

    Args:
        run: The run directory; it is only read.
        constitution: A file, or the name of a shipped constitution.
        out: The new run directory. Repeating the call resumes, and judges rows again that the old
            run has made anew since.
        preflight: Whether the judges' servers are asked once before the first call.
        retry_failed: Ask again what failed before: single calls of judges.
        on_progress: Called about twice a second.

    Raises:
        InputError: The run or the constitution was not found, or the run's judges do not fit it.
        EngineMissing: A judge's model, extra or key is missing.
        EngineUnavailable: A judge's model or server is down; what was asked is kept.
        KeyboardInterrupt: Stopped by a signal; what was finished is kept.
    """
    return run_sync(
        lambda: arelabel(
            run,
            constitution=constitution,
            out=out,
            preflight=preflight,
            retry_failed=retry_failed,
            on_progress=on_progress,
        )
    )


async def arelabel(
    run: str | Path,
    *,
    constitution: str | Path,
    out: str | Path,
    preflight: bool = True,
    retry_failed: bool = False,
    on_progress: OnProgress | None = None,
) -> Relabelled:
    """The same as `relabel`, to be awaited."""
    old = open_run(run)
    settings = run_settings(old)
    new = load_constitution(constitution)
    done = await rejudge(
        old,
        new,
        out=Path(out),
        why={"relabels": old.manifest.constitution_label},
        notice=f"responses are those of the run {old.manifest.label}, judged anew",
        preflight=preflight,
        retry_failed=retry_failed,
        on_progress=on_progress,
    )
    before = constitution_from_mapping(old.manifest.constitution)
    weights = (
        OpinionWeights.build(before, settings.judges),
        OpinionWeights.build(new, settings.judges),
    )
    difference = diff_constitutions(before, new)
    templates = TemplateSet.open(settings.templates)
    relevance = settings.judging.relevance == "model"
    prompts = prompts_of(settings.asked_judges, templates, relevance=relevance)
    reached = [(one, find_reached(one, before, new, prompts)) for one in difference.changes]
    edits = [
        Edit(one.principle, one.field, tuple(names)) for one, names in reached if names is not None
    ]
    return Relabelled(
        done,
        compare_labels(old, done.run, *weights),
        difference.unchanged,
        len(new.principles),
        tuple(edits),
    )


def reparse(run: str | Path, *, out: str | Path, on_progress: OnProgress | None = None) -> Rejudged:
    """Read a run's stored raw replies with the present parsers; no model is asked.

    Works in scripts and in notebooks (where an event loop is already running).

    Questions whose reply is not in the ledger (because a template changed since) become verdicts
    that abstain with the reason ``failed``, kind ``not-recorded``.

    Args:
        run: The run directory; it is only read.
        out: The new run directory.
        on_progress: Called about twice a second.

    Raises:
        InputError: The run was not found.
        KeyboardInterrupt: Stopped by a signal; what was finished is kept.
    """
    return run_sync(lambda: areparse(run, out=out, on_progress=on_progress))


async def areparse(
    run: str | Path, *, out: str | Path, on_progress: OnProgress | None = None
) -> Rejudged:
    """The same as `reparse`, to be awaited."""
    old = open_run(run)
    return await rejudge(
        old,
        constitution_from_mapping(old.manifest.constitution),
        out=Path(out),
        why={"reparsed": True},
        notice=f"raw replies are those of the run {old.manifest.label}, read anew",
        replay_only=True,
        on_progress=on_progress,
    )


def compare_labels(old: Run, new: Run, before: OpinionWeights, after: OpinionWeights) -> Flips:
    """Compare the judgments of two runs over the same responses, comparison by comparison."""
    known = {
        (view.judgment.first_id, view.judgment.second_id): view.judgment for view in old.judgments()
    }
    flips = Flips()
    for view in new.judgments():
        judgment = known.get((view.judgment.first_id, view.judgment.second_id))
        if judgment is not None:
            _compare(flips, judgment, view, before, after)
    return flips


def _compare(
    flips: Flips, old: Judgment, view: JudgmentView, before: OpinionWeights, after: OpinionWeights
) -> None:
    flips.compared += 1
    was, now = side(old.preference) or 0, side(view.judgment.preference) or 0
    if was == now:
        flips.same += 1
    elif was and now:
        flips.flipped += 1
        cause = _cause(old, view, before, after, now)
        flips.causes[cause] += 1
        examples = flips.examples.setdefault(cause, [])
        if len(examples) < EXAMPLES:
            examples.append(_example(old, view, now))
    elif now:
        flips.gained += 1
    else:
        flips.lost += 1


def _cause(
    old: Judgment, view: JudgmentView, before: OpinionWeights, after: OpinionWeights, direction: int
) -> str:
    """The principle whose contribution moved most towards the new side."""
    tags = view.prompt.tags
    was = contributions(old, before.of(old.verdicts, tags))
    now = contributions(view.judgment, after.of(view.judgment.verdicts, tags))
    moved = {name: direction * (now.get(name, 0.0) - was.get(name, 0.0)) for name in {**was, **now}}
    return min(moved, key=lambda name: (-moved[name], name)) if moved else "(none)"


def _example(old: Judgment, view: JudgmentView, now: int) -> Flip:
    assert old.preference is not None and view.judgment.preference is not None  # noqa: PT018
    texts = (view.first.text, view.second.text)
    chosen, rejected = texts if now > 0 else texts[::-1]
    before, after = old.preference, view.judgment.preference
    if now < 0:
        before, after = 1.0 - before, 1.0 - after
    return Flip(view.prompt.text, chosen, rejected, before, after)
