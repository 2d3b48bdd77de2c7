"""Gold: pairs of responses of which people know which one is better; outcomes: what a judge chose.

One JSON object a line: ``{id, prompt, response_a, response_b, label: a|b|tie, source, category}``;
``prompt`` is text or a list of chat messages, ``source`` and ``category`` are optional. A broken
line is a `Failure` with its number; a file that cannot be read at all is an exception.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rlaif.config import read_text
from rlaif.errors import RecordError
from rlaif.records import (
    Choice,
    Comparison,
    Failure,
    Judgment,
    Prompt,
    Response,
    content_id,
    content_uniform,
)

_LABELS = {"a": Choice.A, "b": Choice.B, "tie": Choice.TIE}


@dataclass(frozen=True, slots=True)
class GoldPair:
    """Two responses, and which one is better."""

    id: str
    prompt: Prompt
    comparison: Comparison
    """``response_a`` is the first. Equal texts for the same prompt are the same response."""

    label: Choice
    """A, B or TIE: ``response_a`` is better, ``response_b`` is, or neither."""

    category: str = ""
    source: str = ""

    @property
    def cluster(self) -> str:
        """What pairs must share to depend on each other: the prompt's content."""
        return self.prompt.id


@dataclass(frozen=True, slots=True)
class GoldSet:
    """One gold file, or the part of it that ``limit`` took."""

    name: str
    """The file's name without its ending; gates refer to it."""

    fingerprint: str
    """Hash over the pairs taken, so that two audits of the same pairs are recognised."""

    pairs: tuple[GoldPair, ...]
    failures: tuple[Failure, ...]
    """Broken lines; ``record_id`` is file:line."""

    read: int
    """Lines that hold a record, good or broken, in the whole file."""

    def counts(self) -> dict[str, Any]:
        """Return what was read, taken and left out, JSON-compatible."""
        return {
            "fingerprint": self.fingerprint,
            "read": self.read,
            "pairs": len(self.pairs),
            "prompts": len({pair.cluster for pair in self.pairs}),
            "ties": sum(pair.label is Choice.TIE for pair in self.pairs),
            "broken": dict(Counter(failure.kind for failure in self.failures)),
            "broken_lines": [failure.record_id for failure in self.failures],
        }


def read_gold(path: Path, *, limit: int | None = None, seed: int = 0) -> GoldSet:
    """Read a gold file.

    Args:
        path: The file.
        limit: Take at most this many pairs, drawn by their content: the same ones wherever they
            stand in the file, and a larger limit takes the same and more.
        seed: Of the draw.

    Raises:
        RecordError: Unreadable, not UTF-8, or not one usable pair in it.
    """
    pairs: dict[str, GoldPair] = {}
    failures: list[Failure] = []
    read = 0
    for number, line in enumerate(read_text(path, RecordError).splitlines(), start=1):
        if not line.strip():
            continue
        read += 1
        item = _read_line(line, f"{path.name}:{number}")
        if isinstance(item, GoldPair) and item.id in pairs:
            message = f"duplicate id {item.id!r}"
            item = Failure("read", f"{path.name}:{number}", "duplicate-id", message)
        if isinstance(item, Failure):
            failures.append(item)
        else:
            pairs[item.id] = item
    if not pairs:
        why = f"; {failures[0].record_id}: {failures[0].message}" if failures else ""
        raise RecordError(
            f"{path}: no usable gold pair{why}",
            hint="each line needs prompt, response_a, response_b and label (a, b or tie)",
        )
    taken = _sample(tuple(pairs.values()), limit, seed)
    fingerprint = content_id("gold", sorted(_identity(pair) for pair in taken))
    return GoldSet(path.stem, fingerprint, taken, tuple(failures), read)


def read_all_gold(
    paths: Sequence[Path], *, limit: int | None = None, seed: int = 0
) -> tuple[GoldSet, ...]:
    """Read several gold files, ``limit`` pairs of each.

    Raises:
        RecordError: As `read_gold`; or two files have the same name, by which results are reported.
    """
    sets = tuple(read_gold(path, limit=limit, seed=seed) for path in paths)
    for name, count in Counter(gold.name for gold in sets).items():
        if count > 1:
            raise RecordError(
                f"{count} gold files are named {name!r}, and results are reported by that name",
                hint="rename one of them",
            )
    return sets


def _sample(pairs: tuple[GoldPair, ...], limit: int | None, seed: int) -> tuple[GoldPair, ...]:
    if limit is None or len(pairs) <= limit:
        return pairs
    drawn = sorted(pairs, key=lambda pair: content_uniform(seed, "gold", _identity(pair)))
    return tuple(drawn[:limit])


def _identity(pair: GoldPair) -> list[str]:
    return [pair.prompt.id, pair.comparison.first.text, pair.comparison.second.text, pair.id]


def _read_line(line: str, place: str) -> GoldPair | Failure:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as problem:
        return Failure("read", place, "bad-json", str(problem))
    if not isinstance(record, Mapping):
        return Failure("read", place, "bad-record", f"expected an object, found {record!r:.60}")
    missing = [
        key for key in ("prompt", "response_a", "response_b", "label") if record.get(key) is None
    ]
    if missing:
        return Failure("read", place, "missing-field", f"no {', '.join(missing)}")
    label = _LABELS.get(str(record["label"]).lower())
    if label is None:
        message = f"label must be a, b or tie, not {record['label']!r:.60}"
        return Failure("read", place, "bad-label", message)
    texts = (record["response_a"], record["response_b"])
    if not all(isinstance(text, str) for text in texts):
        return Failure("read", place, "bad-response", "responses must be text")
    try:
        prompt = Prompt.build(record["prompt"], source=place)
    except (ValueError, TypeError) as problem:
        return Failure("read", place, "bad-prompt", str(problem))
    first, second = (Response.build(prompt.id, text, index=0, origin="gold") for text in texts)
    given = record.get("id")
    return GoldPair(
        id=content_id("gold-pair", prompt.id, *texts) if given in (None, "") else str(given),
        prompt=prompt,
        comparison=Comparison(first, second),
        label=label,
        category=str(record.get("category") or ""),
        source=str(record.get("source") or ""),
    )


_EVEN = 1e-9  # preferences closer to ½ than this differ from it by rounding alone
_CHOICE_OF_SIDE = {1: Choice.A, -1: Choice.B, 0: Choice.TIE, None: Choice.ABSTAIN}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A gold label beside a judgment. Choices are in the order of the gold pair."""

    cluster: str
    """Outcomes of the same cluster (prompt) are not independent of each other."""

    gold: Choice
    lengths: tuple[int, int]
    """Characters of the two responses."""

    judgment: Judgment
    category: str = ""

    @classmethod
    def build(cls, pair: GoldPair, judgment: Judgment) -> "Outcome":
        """Put a gold pair and its judgment together."""
        lengths = (len(pair.comparison.first.text), len(pair.comparison.second.text))
        return cls(pair.cluster, pair.label, lengths, judgment, pair.category)

    @property
    def choice(self) -> Choice:
        """What the judge prefers; TIE at exactly ½, ABSTAIN without a preference."""
        return choice_of(self.judgment)

    @property
    def credit(self) -> float | None:
        """1 where judge and a decided gold label agree, 0 where not, ½ where the judge ties.

        None where the gold label is a tie or the judge abstained: neither can be right or wrong.
        """
        if self.gold is Choice.TIE or self.choice is Choice.ABSTAIN:
            return None
        if self.choice is Choice.TIE:
            return 0.5
        return 1.0 if self.choice is self.gold else 0.0

    @property
    def doublings(self) -> float:
        """How many times longer the first response is, as a base-2 logarithm; 0 when equal."""
        first, second = self.lengths
        return math.log2((first + 1) / (second + 1))


def choice_of(judgment: Judgment) -> Choice:
    """What a judgment prefers, in content order; TIE at exactly ½, ABSTAIN without preference."""
    return _CHOICE_OF_SIDE[side(judgment.preference)]


def side(preference: float | None) -> int | None:
    """Return 1 for the first response, −1 for the second, 0 for a tie, None for no preference."""
    if preference is None:
        return None
    if abs(preference - 0.5) < _EVEN:
        return 0
    return 1 if preference > 0.5 else -1
