"""The difference between two constitutions, principle by principle: added, removed or changed how.

It also says what a textual diff does not: whether a change can alter data, and how many
principles it touches, since only judgments that show those are asked again.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, Literal

from rlaif.constitution.models import Constitution, Principle

ChangeKind = Literal[
    "added", "removed", "renamed", "reworded", "reweighted", "retagged", "redefined", "reordered"
]
_WORDS = ("statement", "critique_request", "revision_request", "comparison", "opposite", "examples")
_KIND_OF_FIELD: dict[str, ChangeKind] = {
    **dict.fromkeys(_WORDS, "reworded"),
    "weight": "reweighted",
    "tags": "retagged",
    "applies_to": "retagged",
    "kind": "redefined",
    "polarity": "redefined",
    "rule": "redefined",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. ``old`` and ``new`` are plain data; None for the missing side."""

    kind: ChangeKind
    """``redefined`` is a new polarity, kind or rule; ``reordered`` a new place in the list."""

    principle: str
    """The principle's id; for ``renamed`` the old one."""

    field: str = ""
    """The field that changed; empty when the whole principle did."""

    old: Any = None
    new: Any = None

    def as_json(self) -> dict[str, Any]:
        """Return all fields and ``changes_data``, for one line of ``--json``."""
        return {**asdict(self), "changes_data": self.changes_data}

    @property
    def changes_data(self) -> bool:
        """Whether records made with the new constitution can differ; tags only group reports."""
        return self.field != "tags"


@dataclass(frozen=True, slots=True)
class ConstitutionDiff:
    """All differences, principle by principle."""

    old: Constitution
    new: Constitution
    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def unchanged(self) -> int:
        """How many principles of the new constitution have the same fingerprint in the old one."""
        before = {principle.fingerprint for principle in self.old.principles}
        return sum(principle.fingerprint in before for principle in self.new.principles)


def diff_constitutions(old: Constitution, new: Constitution) -> ConstitutionDiff:
    """Compare two constitutions; names, versions and descriptions do not count."""
    before = {principle.id: principle for principle in old.principles}
    after = {principle.id: principle for principle in new.principles}
    renamed = _renamed(before, after)
    changes: list[Change] = [
        Change("renamed", old_id, "id", old_id, new_id) for old_id, new_id in renamed.items()
    ]
    for principle_id in before:
        if principle_id in after:
            changes += _compared(before[principle_id], after[principle_id])
        elif principle_id not in renamed:
            changes.append(Change("removed", principle_id, old=_plain(before[principle_id])))
    for principle_id in after:
        if principle_id not in before and principle_id not in renamed.values():
            changes.append(Change("added", principle_id, new=_plain(after[principle_id])))
    kept = [renamed.get(i, i) for i in before if i in after or i in renamed]
    changes += _moved(kept, [i for i in after if i in set(kept)])
    return ConstitutionDiff(old, new, tuple(changes))


def render_diff(diff: ConstitutionDiff, notes: Sequence[str] = ()) -> list[str]:
    """Return the difference as lines: ``+`` for new, ``-`` for old, ``~`` for changed.

    Args:
        diff: What differs.
        notes: One for each change, to stand below it; empty ones are left out.
    """
    lines = [f"--- {_title(diff.old)}", f"+++ {_title(diff.new)}"]
    for change, note in zip_longest(diff.changes, notes, fillvalue=""):
        assert isinstance(change, Change)
        lines += [*_rendered(change), *([f"    {note}"] if note else [])]
    total = len(diff.new.principles)
    same = f"{diff.unchanged} of {total} principles" if diff else f"all {total} principles"
    return [*lines, f"{same} unchanged"]


def word_changes(old: str, new: str) -> str:
    """Return both texts as one, with removed words in ``[-…-]`` and added ones in ``{+…+}``."""
    before, after = old.split(), new.split()
    pieces = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for operation, i, j, m, n in matcher.get_opcodes():
        if operation == "equal":
            pieces.append(" ".join(before[i:j]))
            continue
        if j > i:
            pieces.append(f"[-{' '.join(before[i:j])}-]")
        if n > m:
            pieces.append(f"{{+{' '.join(after[m:n])}+}}")
    return " ".join(pieces)


def _plain(principle: Principle) -> dict[str, Any]:
    return principle.model_dump(mode="json", exclude_defaults=True)


def _renamed(before: dict[str, Principle], after: dict[str, Principle]) -> dict[str, str]:
    """Old id to new id, for principles that differ in nothing else."""
    added = {_but_for_id(p): i for i, p in after.items() if i not in before}
    removed = {i: _but_for_id(p) for i, p in before.items() if i not in after}
    return {i: added[content] for i, content in removed.items() if content in added}


def _but_for_id(principle: Principle) -> str:
    return principle.model_dump_json(exclude={"id"})


def _compared(old: Principle, new: Principle) -> Iterator[Change]:
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    for field, kind in _KIND_OF_FIELD.items():
        if before[field] != after[field]:
            yield Change(kind, new.id, field, before[field], after[field])


def _moved(before: Sequence[str], after: Sequence[str]) -> Iterator[Change]:
    """The smallest set of moves that explains the new order; places count from 1."""
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    stayed = {
        before[block.a + i] for block in matcher.get_matching_blocks() for i in range(block.size)
    }
    for principle_id in after:
        if principle_id not in stayed:
            places = before.index(principle_id) + 1, after.index(principle_id) + 1
            yield Change("reordered", principle_id, "", *places)


def _title(constitution: Constitution) -> str:
    return f"{constitution.label} (version {constitution.version})"


def _rendered(change: Change) -> list[str]:
    match change.kind:
        case "added":
            return [f"+ {change.principle}: {change.new['statement']}"]
        case "removed":
            return [f"- {change.principle}: {change.old['statement']}"]
        case "renamed":
            return [f"~ {change.old} is now {change.new}"]
        case "reordered":
            return [f"~ {change.principle} moved from place {change.old} to {change.new}"]
        case "reweighted":
            return [f"~ {change.principle} weight {change.old:g} → {change.new:g}"]
        case "retagged":
            return [f"~ {change.principle} {change.field} {_tags(change.old, change.new)}"]
        case _ if isinstance(change.old, str):
            return [
                f"~ {change.principle} {change.field}",
                f"    {word_changes(change.old, change.new)}",
            ]
        case _:
            return [f"~ {change.principle} {change.field}", *_parts(change.old, change.new)]


def _tags(old: list[str], new: list[str]) -> str:
    removed = [f"-{tag}" for tag in old if tag not in new]
    added = [f"+{tag}" for tag in new if tag not in old]
    return " ".join([*removed, *added]) or "in a different order"


def _parts(old: Any, new: Any) -> list[str]:
    """What differs between two lists of examples, or two rules."""
    if isinstance(old, list):
        shown = [f"    - {item['prompt']!r:.70}" for item in old if item not in new]
        shown += [f"    + {item['prompt']!r:.70}" for item in new if item not in old]
        return shown or ["    in a different order"]
    before, after = old or {}, new or {}
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [f"    {key}: {before.get(key)} → {after.get(key)}" for key in keys]
