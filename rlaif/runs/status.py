"""Status: what a run has done, dropped, failed and spent, read from its own directory."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from rlaif.errors import RunError
from rlaif.records import REMOVED, Choice, Failure
from rlaif.runs.failures import read_failures
from rlaif.runs.ids import IdSet, read_ids
from rlaif.runs.layout import Layout
from rlaif.runs.ledger.entry import Total
from rlaif.runs.ledger.ledger import Ledger
from rlaif.runs.lock import is_locked
from rlaif.runs.log import read_log
from rlaif.runs.manifest import Manifest
from rlaif.runs.messages import Message, MessageCounter
from rlaif.runs.shards import Shards

State = Literal["running", "finished", "interrupted"]

LOW_MASS = 0.5
"""A median label mass below this is low: the labels are less likely than everything else."""


def low_mass_notice(who: str, median: float) -> str:
    """Return what readers of a judge's labels must know when their mass is low."""
    return (
        f"{who}: low label mass, {median:.3f} (median): it would rather reply something other than "
        "a label"
    )


_ABSTAIN = Choice.ABSTAIN.value
_COLUMNS = (
    "prompt.id",
    "responses.list.element.id",
    "responses.list.element.origin",
    "critiques.list.element.principle",
    "pairs.list.element.prompt_id",
    "drops.list.element.what",
    "drops.list.element.reason",
    "failures",
    "judgments.list.element.preference",
    "judgments.list.element.verdicts.list.element.choice",
    "judgments.list.element.verdicts.list.element.judge",
    "judgments.list.element.verdicts.list.element.reason",
    "judgments.list.element.verdicts.list.element.mass",
    "canaries.list.element.verdicts.list.element.choice",
    "canaries.list.element.verdicts.list.element.judge",
)


@dataclass(slots=True)
class RunStatus:
    """Counts over a whole run. Numbers are of what is on the disk at this moment."""

    path: Path
    name: str
    label: str
    state: State
    """``interrupted``: no process is writing, and the last start did not reach its end."""

    expected: int | None
    """Prompts in the input, unreadable ones included; None while that is not known."""

    rows: int = 0
    failed: int = 0
    """Prompts that could not become a row."""

    failures: Counter[str] = field(default_factory=Counter)
    """The same by kind."""

    removed: Counter[str] = field(default_factory=Counter)
    """Those of them that were left out on purpose, by kind: duplicates, contaminated ones."""

    call_failures: Counter[str] = field(default_factory=Counter)
    """Calls that failed without making their prompt fail, by kind."""

    messages: tuple[Message, ...] = ()
    """What servers said about calls that failed, by role, the most frequent first."""

    failed_shares: dict[str, float] = field(default_factory=dict)
    """By role, the share of what was asked for that failed: samples, critiques and revisions,
    verdicts. Only roles of which something failed."""

    more_rows: int = 0
    """Of ``rows``, those of prompts that the last whole pass did not read: beyond ``limit``, or in
    another part."""

    more_failed: int = 0
    """Of ``failed``, the same."""

    warnings: tuple[str, ...] = ()
    """What the last start warned of."""

    orphans: int = 0
    """Rows on the disk whose prompt is no longer in the input; they are in no other count."""

    responses: int = 0
    judgments: int = 0
    undecided: int = 0
    """Judgments without a preference, because every verdict abstained."""

    choices: Counter[str] = field(default_factory=Counter)
    """Verdicts by what they chose, in the order shown to the judge."""

    abstentions: Counter[str] = field(default_factory=Counter)
    """Verdicts that abstained, by reason."""

    label_mass: dict[str, float] = field(default_factory=dict)
    """Judge to the median probability of its labels together, to three digits, over the verdicts
    that report one; abstentions included."""

    pairs: int = 0
    drops: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By what was dropped and why."""

    calls: tuple[Total, ...] = ()
    """Model calls and spend, by purpose and engine."""

    stopped: str = ""
    """Why the last start stopped early, such as a budget that was used up."""

    notices: tuple[str, ...] = ()
    damaged: dict[str, str] = field(default_factory=dict)
    """Files that cannot be read, with the reason and the way out. Their content is in no count."""

    @property
    def verdicts(self) -> int:
        """All verdicts, those that abstained included."""
        return self.choices.total()

    @property
    def abstained(self) -> int:
        """Verdicts that abstained."""
        return self.abstentions.total()

    @property
    def low_masses(self) -> tuple[str, ...]:
        """A line for every judge that would mostly reply something other than a label."""
        return tuple(
            low_mass_notice(judge, mass)
            for judge, mass in self.label_mass.items()
            if mass < LOW_MASS
        )

    @property
    def price(self) -> float | None:
        """Spent so far, as far as prices are known; None when none is."""
        known = [total.price for total in self.calls if total.price is not None]
        return sum(known) if known else None

    @property
    def cached_share(self) -> float | None:
        """Share of prompt tokens that came from a prefix cache, over the calls that report any.

        None when none does: their server may have no such cache, or not report it.
        """
        told = [total for total in self.calls if total.cached_share is not None]
        cached = sum(total.cached_tokens for total in told)
        return cached / sum(total.prompt_tokens for total in told) if told else None

    @property
    def cache_words(self) -> str:
        """The same for a reader, purpose by purpose; empty when nothing is known."""
        if self.cached_share is None:
            return ""
        parts = ", ".join(
            f"{total.purpose} by {total.engine} {total.cached_share:.0%}"
            for total in self.calls
            if total.cached_share is not None
        )
        return f"{self.cached_share:.0%} of prompt tokens ({parts})"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dictionary."""
        plain = {one.name: _plain(getattr(self, one.name)) for one in fields(self)}
        drops = [
            {"what": what, "reason": reason, "count": count}
            for (what, reason), count in sorted(self.drops.items())
        ]
        sums = {
            "verdicts": self.verdicts,
            "abstained": self.abstained,
            "price": self.price,
            "cached_share": self.cached_share,
        }
        return plain | {"drops": drops} | sums


def _plain(value: Any) -> Any:
    match value:
        case Path():
            return str(value)
        case Counter():
            return dict(value)
        case tuple():
            return [one.to_json() if isinstance(one, Total | Message) else one for one in value]
        case _:
            return value


def read_status(root: Path, manifest: Manifest, *, verify: bool = False) -> RunStatus:
    """Count what is in a run directory; a damaged file is reported, not raised.

    Args:
        root: The run directory.
        manifest: Its manifest.
        verify: Read every shard to its last byte, to find damage wherever it is.
    """
    layout = Layout(root)
    # Before the log: a writer says that it has finished, and then lets the lock go.
    locked = is_locked(root)
    status = RunStatus(
        root, manifest.name, manifest.label, "interrupted", None, notices=manifest.notices
    )
    at_end = _read_log(layout.log, status)
    failures = _read_failures(layout, status)
    said, made = MessageCounter(), Counter[str]()
    masses: dict[str, Counter[float]] = {}
    shards = Shards(layout.shards, without=_read_orphans(layout, status))
    for path in shards.paths:
        try:
            for batch in shards.read(path, None if verify else _COLUMNS):
                _count(status, batch, said, made)
                _count_masses(masses, batch)
                if failures:
                    for prompt_id in batch.column("prompt").field("id").to_pylist():
                        failures.pop(prompt_id, None)
        except RunError as problem:
            status.damaged[str(path)] = str(problem)
    for failure in failures.values():
        said.add(failure)
    status.orphans = shards.left_out
    status.label_mass = {judge: _median(masses[judge]) for judge in sorted(masses)}
    status.messages = tuple(said.most_common())
    status.failed_shares = said.shares(made)
    status.failed = len(failures)
    status.failures = Counter(failure.kind for failure in failures.values())
    status.removed = Counter(one.kind for one in failures.values() if one.stage == REMOVED)
    _read_calls(layout, status)
    asked_for = status.rows + status.failed - status.more_rows - status.more_failed
    complete = status.expected is None or asked_for >= status.expected
    if locked:
        status.state = "running"
    elif at_end and complete and not status.damaged:
        status.state = "finished"
    return status


def _count(
    status: RunStatus, batch: pa.RecordBatch, said: MessageCounter, made: Counter[str]
) -> None:
    verdicts = _items(_items(batch.column("judgments")).field("verdicts"))
    choices, drops = verdicts.field("choice"), _items(batch.column("drops"))
    preferences = _items(batch.column("judgments")).field("preference")
    status.rows += len(batch)
    status.responses += len(_items(batch.column("responses")))
    status.pairs += len(_items(batch.column("pairs")))
    status.judgments += len(preferences)
    status.undecided += preferences.null_count
    _tally(status.choices, choices)
    _tally(status.abstentions, verdicts.field("reason").filter(pc.equal(choices, _ABSTAIN)))
    for origin, count in _counted(_items(batch.column("responses")).field("origin")):
        made["critic" if origin.startswith("revision") else "student"] += count
    made["critic"] += len(_items(batch.column("critiques")))
    _count_verdicts(made, verdicts)
    if "canaries" in batch.schema.names:  # earlier versions wrote none
        _count_verdicts(made, _items(_items(batch.column("canaries")).field("verdicts")))
    failures = _items(batch.column("failures"))
    _tally(status.call_failures, failures.field("kind"))
    for failure in failures.to_pylist():
        said.add(Failure(**failure))
    status.drops.update(
        zip(drops.field("what").to_pylist(), drops.field("reason").to_pylist(), strict=True)
    )


def _count_verdicts(made: Counter[str], verdicts: pa.Array) -> None:
    decided = pc.not_equal(verdicts.field("choice"), _ABSTAIN)
    for judge, count in _counted(verdicts.field("judge").filter(decided)):
        made[f"judge:{judge}"] += count


def _count_masses(masses: dict[str, Counter[float]], batch: pa.RecordBatch) -> None:
    """Count rounded masses by judge: few different ones, however many verdicts there are."""
    verdicts = _items(_items(batch.column("judgments")).field("verdicts"))
    table = pa.table(
        {"judge": verdicts.field("judge"), "mass": pc.round(verdicts.field("mass"), 3)}
    ).filter(pc.field("mass").is_valid())
    for row in table.group_by(["judge", "mass"]).aggregate([([], "count_all")]).to_pylist():
        masses.setdefault(row["judge"], Counter())[row["mass"]] += row["count_all"]


def _median(counts: Counter[float]) -> float:
    """The median of counted values; of an even number the mean of the two in the middle."""
    total, passed = counts.total(), 0
    middle = []
    for value in sorted(counts):
        here = range(passed, passed := passed + counts[value])
        middle += [value] * ((total - 1) // 2 in here) + [value] * (total // 2 in here)
    return sum(middle) / 2.0


def _items(lists: pa.Array) -> pa.Array:
    return lists.flatten()


def _tally(counter: Counter[str], values: pa.Array) -> None:
    for value, count in _counted(values):
        counter[value] += count


def _counted(values: pa.Array) -> Iterator[tuple[str, int]]:
    for pair in values.value_counts().to_pylist():
        yield pair["values"], pair["counts"]


def _read_orphans(layout: Layout, status: RunStatus) -> IdSet:
    try:
        return read_ids(layout.orphans)
    except RunError as problem:
        status.damaged[str(layout.orphans)] = str(problem)
        return IdSet()


def _read_failures(layout: Layout, status: RunStatus) -> dict[str, Failure]:
    try:
        return read_failures(layout.failures)
    except RunError as problem:
        status.damaged[str(layout.failures)] = str(problem)
        return {}


def _read_calls(layout: Layout, status: RunStatus) -> None:
    if not layout.ledger.exists() and not layout.replies.exists():
        return
    try:
        with Ledger.open(layout.ledger, read_only=True) as ledger:
            status.calls = ledger.totals()
    except RunError as problem:
        status.damaged[str(layout.ledger)] = str(problem)


def _read_log(path: Path, status: RunStatus) -> bool:
    """Read what the last start said; return whether it reached its end."""
    at_end, warnings = False, list[str]()
    for event in read_log(path):
        match event:
            case {"event": "input", "prompts": int(prompts)}:
                status.expected = prompts
                status.more_rows = _number(event, "more_rows")
                status.more_failed = _number(event, "more_failed")
            case {"event": "started"}:
                at_end, status.stopped, warnings = False, "", []
            case {"event": "finished"}:
                at_end = True
            case {"event": "stopped", "error": str(why)}:
                status.stopped = why
            case {"event": "warning", "message": str(message)}:
                warnings.append(message)
            case _:
                pass
    status.warnings = tuple(warnings)
    return at_end


def _number(event: dict[str, Any], key: str) -> int:
    value = event.get(key)
    return value if isinstance(value, int) else 0
