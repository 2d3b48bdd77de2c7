"""Annotated pairs: per-pair, per-principle votes in the JSON format of Inverse Constitutional AI.

Findeis et al. 2024 (arXiv 2406.06560) keep, for every pair of responses, what each principle would
prefer; their tools and viewers read it as *annotated pairs*, version 2. Out: a run's judgments,
each principle an annotator, the label as the default annotator. In: such a file becomes gold pairs,
and principles with their votes counted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from rlaif.auditing.gold import side
from rlaif.auditing.principles.explain import OpinionWeights, contributions
from rlaif.constitution import Principle
from rlaif.errors import RecordError
from rlaif.records import Failure, Prompt, content_id
from rlaif.records.plain import Plain
from rlaif.runs import JudgmentView

VERSION = "2.0"
LABEL = "rlaif-label"
"""Id of the default annotator: the run's label."""

_PREFERENCES = {"a": "a", "text_a": "a", "b": "b", "text_b": "b", "tie": "tie", "both": "tie"}
_LETTER = {1: "a", -1: "b", 0: "tie"}


@dataclass(slots=True)
class Votes(Plain):
    """How one principle voted, against the default annotator."""

    statement: str
    agree: int = 0
    disagree: int = 0
    silent: int = 0
    """No preference, or the default annotator had none."""


@dataclass(slots=True)
class AnnotatedPairs:
    """What an annotated-pairs file holds."""

    gold: list[dict[str, Any]] = field(default_factory=list)
    """Gold pairs by the default annotator, as `rlaif.auditing.read_gold` reads lines of them."""

    votes: dict[str, Votes] = field(default_factory=dict)
    """Annotator id of each principle to its votes."""

    failures: list[Failure] = field(default_factory=list)


_KEYS = ("metadata", "annotators", "comparisons")


def export_annotated_pairs(
    views: Iterable[JudgmentView], weights: OpinionWeights, *, name: str
) -> dict[str, Any]:
    """Return a run's judgments as annotated pairs, JSON-compatible.

    A principle prefers what its opinions, weighted, prefer. One that was not asked about a pair is
    left out there; one that is exactly even prefers ``None`` with the reason ``tie``.
    """
    comparisons = []
    for view in views:
        judgment = view.judgment
        parts = contributions(judgment, weights.of(judgment.verdicts, view.prompt.tags))
        annotations = {LABEL: _annotation(side(judgment.preference), "no-preference")}
        for principle, part in parts.items():
            annotations[principle] = _annotation(side(0.5 + part), "tie")
        comparisons.append(
            {
                "id": content_id("comparison", judgment.first_id, judgment.second_id),
                "prompt": view.prompt.text,
                "response_a": {"text": view.first.text},
                "response_b": {"text": view.second.text},
                "annotations": annotations,
                "metadata": {"prompt_id": view.prompt.id},
            }
        )
    annotators = {
        LABEL: {"name": "label", "description": "The run's label", "type": "unknown"},
        **{
            principle.id: {
                "name": principle.id,
                "description": principle.statement,
                "type": "principle",
            }
            for principle in weights.constitution.principles
        },
    }
    return {
        "metadata": {
            "version": VERSION,
            "description": "Judgments of a run, by principle",
            "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "dataset_name": name,
            "default_annotator": LABEL,
            "available_metadata_keys_per_comparison": ["prompt_id"],
        },
        "annotators": annotators,
        "comparisons": comparisons,
    }


def read_annotated_pairs(path: Path) -> AnnotatedPairs:
    """Read an annotated-pairs file; comparisons that cannot be read are failures.

    Raises:
        RecordError: It cannot be read, or is not annotated pairs of version 2.
    """
    try:
        data = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file") from None
    except (OSError, orjson.JSONDecodeError) as problem:
        raise RecordError(f"{path}: cannot be read: {problem}") from None
    if not isinstance(data, dict) or not data.keys() >= set(_KEYS):
        raise RecordError(f"{path}: holds no annotated pairs (metadata, annotators, comparisons)")
    try:
        return _read_all(path, **{key: data[key] for key in _KEYS})
    except (AttributeError, TypeError) as problem:
        raise RecordError(f"{path}: not annotated pairs: {problem}") from None


def _read_all(path: Path, *, metadata: Any, annotators: Any, comparisons: Any) -> AnnotatedPairs:
    version = str(metadata.get("version", ""))
    if not version.startswith("2"):
        raise RecordError(f"{path}: version {version or 'unknown'} is not read; 2 is")
    default = metadata.get("default_annotator")
    found = AnnotatedPairs(
        votes={
            name: Votes(str(one.get("description", "")))
            for name, one in annotators.items()
            if one.get("type") == "principle"
        }
    )
    for number, comparison in enumerate(comparisons, start=1):
        _read(found, comparison, default, f"{path.name}:{number}")
    return found


def principles_from_votes(pairs: AnnotatedPairs, *, least_agreement: float) -> list[Principle]:
    """Return the principles that agree with the default annotator, most agreement first.

    Args:
        pairs: What was read.
        least_agreement: Share of a principle's votes that agree, in [0, 1].
    """
    kept = []
    for votes in pairs.votes.values():
        spoken = votes.agree + votes.disagree
        if votes.statement and spoken and votes.agree / spoken >= least_agreement:
            kept.append((votes.agree - votes.disagree, votes.statement))
    ordered = sorted(kept, key=lambda one: (-one[0], one[1]))
    return [
        Principle(id=f"from-votes-{place}", statement=statement)
        for place, (_, statement) in enumerate(ordered, start=1)
    ]


def _read(pairs: AnnotatedPairs, comparison: Any, default: Any, place: str) -> None:
    try:
        texts = [str(comparison[key]["text"]) for key in ("response_a", "response_b")]
        annotations: Mapping[str, Any] = comparison["annotations"]
        label = _preference(annotations.get(str(default)))
        prompt = Prompt.build(comparison["prompt"])
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        message = f"{type(problem).__name__}: {problem}"
        pairs.failures.append(Failure("read", place, "bad-comparison", message))
        return
    for name, votes in pairs.votes.items():
        vote = _preference(annotations.get(name))
        if vote in ("a", "b") and label in ("a", "b"):
            votes.agree += vote == label
            votes.disagree += vote != label
        elif name in annotations:
            votes.silent += 1
    if label is not None:
        pairs.gold.append(
            {
                "id": str(comparison.get("id") or content_id("annotated", prompt.id, *texts)),
                "prompt": comparison["prompt"],
                "response_a": texts[0],
                "response_b": texts[1],
                "label": label,
                "source": "annotated-pairs",
                "category": "",
            }
        )


def _preference(annotation: Any) -> str | None:
    if not isinstance(annotation, Mapping) or annotation.get("pref") is None:
        return None
    return _PREFERENCES.get(str(annotation["pref"]).lower())


def _annotation(preferred: int | None, reason: str) -> dict[str, Any]:
    if not preferred:
        return {"pref": None, "no_pref_reason": reason if preferred is None else "tie"}
    return {"pref": _LETTER[preferred]}
