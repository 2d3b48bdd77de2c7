"""Flat records for export, made from nested rows.

Conversations are lists of role and content, as in TRL and chat templates. Everything streams.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pyarrow as pa

from rlaif.records import Message, Response, Revision, Row
from rlaif.records.tool_use import tool_texts, without_tools
from rlaif.runs.schema import MESSAGES, TOOL_MESSAGES, VERDICTS, judgment_to_dict
from rlaif.runs.views import ReadableRun

Record = dict[str, Any]

Steps = Literal["last", "best", "all"]
"""Which revisions of a draft that was revised several times."""

STEPS: tuple[Steps, ...] = get_args(Steps)

_TEXT, _REAL, _COUNT = pa.string(), pa.float64(), pa.int64()
_TEXTS = pa.list_(_TEXT)


@dataclass(frozen=True, slots=True)
class Table:
    """One kind of record: its columns, and a function that reads them from a run."""

    schema: pa.Schema
    records: Callable[[ReadableRun], Iterator[Record]]


def pair_records(run: ReadableRun) -> Iterator[Record]:
    """Yield preference pairs in TRL's conversational format, with the soft label beside them."""
    marks = _marks(run)
    for pair in run.pairs():
        yield {
            **_conversation(pair.prompt.messages),
            "chosen": _reply(pair.chosen),
            "rejected": _reply(pair.rejected),
            "chosen_prob": pair.chosen_prob,
            "margin": pair.margin,
            "prompt_id": pair.prompt_id,
            "chosen_id": pair.chosen_id,
            "rejected_id": pair.rejected_id,
            "principles": list(pair.principles),
            "judges": list(pair.judges),
            "agreement": pair.agreement,
            "abstained": pair.abstained,
            **marks,
        }


def prompt_records(run: ReadableRun) -> Iterator[Record]:
    """Yield every prompt, for reinforcement learning.

    ``reference`` is its demonstration, if any (`demonstration_records`).
    """
    marks = _marks(run)
    for row in _rows(run, "responses", "revisions", "judgments", "failures"):
        best = _best(row)
        yield {
            **_conversation(row.prompt.messages),
            "prompt_id": row.prompt.id,
            "tags": list(row.prompt.tags),
            "reference": None if best is None else best[0].text,
            **marks,
        }


def response_records(run: ReadableRun) -> Iterator[Record]:
    """Yield every response, revisions included."""
    marks = _marks(run)
    for row in _rows(run, "responses"):
        for response in row.responses:
            yield {
                **_conversation(row.prompt.messages),
                "completion": _reply(response),
                "prompt_id": row.prompt.id,
                "response_id": response.id,
                "tags": list(row.prompt.tags),
                "index": response.index,
                "origin": response.origin,
                "finish": response.finish,
                "tokens": response.tokens,
                **marks,
            }


def judgment_records(run: ReadableRun) -> Iterator[Record]:
    """Yield every judgment with its verdicts, including those without a preference."""
    marks = _marks(run)
    for view in run.judgments():
        judgment = view.judgment
        yield {
            **_conversation(view.prompt.messages),
            "first": _reply(view.first),
            "second": _reply(view.second),
            "preference": judgment.preference,
            "raw_preference": judgment.raw_preference,
            "transforms": list(judgment.transforms),
            "margin": judgment.margin,
            "agreement": judgment.agreement,
            "position_bias": judgment.position_bias,
            "abstained": judgment.abstained,
            "prompt_id": view.prompt.id,
            "first_id": judgment.first_id,
            "second_id": judgment.second_id,
            "verdicts": judgment_to_dict(judgment)["verdicts"],
            **marks,
        }


def demonstration_records(run: ReadableRun, revisions: Steps = "last") -> Iterator[Record]:
    """Yield the best response to each prompt, for supervised fine-tuning.

    Candidates are the revisions of the last round (``last``) or of all rounds (``best``); without
    any, the samples, unless a critique or revision failed: an unrevised draft is not a
    demonstration. Responses sampled to be bad (``contrast-against``) are never candidates. The
    candidate with the highest mean preference over its judgments wins, the first of equals. If none
    was judged, the first revision of the last round is taken, but a sample only if it is the only
    one: no judge preferred it.

    ``all`` yields the revisions of all rounds, as SL-CAI trains on them (Bai et al. 2022,
    2212.08073, section 3.1); prompts without revisions are as with ``best``.
    """
    marks = _marks(run)
    for row in _rows(run, "responses", "revisions", "judgments", "failures"):
        for response, preference in _demonstrations(row, revisions):
            yield {
                **_conversation(row.prompt.messages),
                "completion": _reply(response),
                "prompt_id": row.prompt.id,
                "response_id": response.id,
                "tags": list(row.prompt.tags),
                "origin": response.origin,
                "finish": response.finish,
                "preference": preference,
                **marks,
            }


def revision_records(run: ReadableRun, revisions: Steps = "last") -> Iterator[Record]:
    """Yield each draft with its last revision, with its best one, or with all of them.

    ``preference`` is P(revision is better) if a judge compared the two, else None: a revision is
    not assumed to be better than its draft. ``best`` is the one with the highest preference, the
    last one where none was judged. ``changed`` is False if the text is the same.
    """
    marks = _marks(run)
    for row in _rows(run, "responses", "revisions", "judgments"):
        for steps in _parts_of_chains(row, revisions):
            draft, revision = row.response(steps[0].from_id), row.response(steps[-1].to_id)
            yield {
                **_conversation(row.prompt.messages),
                "draft": _reply(draft),
                "revision": _reply(revision),
                "prompt_id": row.prompt.id,
                "draft_id": draft.id,
                "revision_id": revision.id,
                "tags": list(row.prompt.tags),
                "rounds": len(steps),
                "principles": [step.principle for step in steps],
                "changed": draft.text != revision.text,
                "preference": _preferences(row).get((revision.id, draft.id)),
                **marks,
            }


def _demonstrations(row: Row, revisions: Steps) -> list[tuple[Response, float | None]]:
    if revisions == "all" and row.revisions:
        means = _mean_preferences(row)
        revised = dict.fromkeys(revision.to_id for revision in row.revisions)
        return [(row.response(name), means.get(name)) for name in revised]
    best = _best(row, every_round=revisions != "last")
    return [] if best is None else [best]


def _parts_of_chains(row: Row, revisions: Steps) -> Iterator[list[Revision]]:
    """Yield the steps from each draft to the revisions that are asked for."""
    preferences = _preferences(row)
    for steps in _chains(row):
        parts = [steps[: place + 1] for place in range(len(steps))]
        judged = {
            place: preferences[part[-1].to_id, steps[0].from_id]
            for place, part in enumerate(parts)
            if (part[-1].to_id, steps[0].from_id) in preferences
        }
        if revisions == "all":
            yield from parts
        elif revisions == "best" and judged:
            yield parts[max(judged, key=lambda place: judged[place])]
        else:
            yield steps


def _mean_preferences(row: Row) -> dict[str, float]:
    """Return the mean preference of each response over its judgments."""
    scores: dict[str, list[float]] = defaultdict(list)
    for (better_id, _), preference in _preferences(row).items():
        scores[better_id].append(preference)
    return {name: sum(values) / len(values) for name, values in scores.items()}


def _best(row: Row, *, every_round: bool = False) -> tuple[Response, float | None] | None:
    last = max((revision.round for revision in row.revisions), default=0)
    final = {revision.to_id for revision in row.revisions if revision.round == last}
    revised = {revision.to_id for revision in row.revisions} if every_round else final
    if not revised and any(failure.stage in ("critique", "revise") for failure in row.failures):
        return None
    candidates = [
        response
        for response in row.responses
        if (response.id in revised or not revised) and response.origin != "contrast-against"
    ]
    means = _mean_preferences(row)
    judged = [response for response in candidates if response.id in means]
    if judged:
        best = max(judged, key=lambda response: means[response.id])
        return best, means[best.id]
    if candidates and (revised or len(candidates) == 1):
        return next((c for c in candidates if c.id in final), candidates[0]), None
    return None


def _preferences(row: Row) -> Mapping[tuple[str, str], float]:
    """Return P(first is better than second) for every judged pair, in both orders."""
    preferences: dict[tuple[str, str], float] = {}
    for judgment in row.judgments:
        if judgment.preference is not None:
            preferences[judgment.first_id, judgment.second_id] = judgment.preference
            preferences[judgment.second_id, judgment.first_id] = 1.0 - judgment.preference
    return preferences


def _chains(row: Row) -> Iterator[list[Revision]]:
    """Yield the steps of every draft to its last revision."""
    onward = {revision.from_id: revision for revision in row.revisions}
    reached = {revision.to_id for revision in row.revisions}
    for revision in row.revisions:
        if revision.from_id in reached:
            continue
        steps = [revision]
        while steps[-1].to_id in onward:
            steps.append(onward[steps[-1].to_id])
        yield steps


def _rows(run: ReadableRun, *parts: str) -> Iterator[Row]:
    return run.read(parts)


def _marks(run: ReadableRun) -> dict[str, str]:
    return {"constitution": run.manifest.constitution_label, "run": run.manifest.label}


def _conversation(messages: tuple[Message, ...]) -> Record:
    """Return the prompt and, if it has tools, their definitions as JSON text."""
    tools = tool_texts(messages)
    return {"prompt": without_tools(messages)} | ({"tools": tools[0]} if tools else {})


def _reply(response: Response) -> list[Record]:
    return [{"role": "assistant", "content": response.text}]


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(columns | {"constitution": _TEXT, "run": _TEXT})


def with_tools(schema: pa.Schema) -> pa.Schema:
    """Return the columns of a table for prompts with tools."""
    prompt = schema.get_field_index("prompt")
    return schema.set(prompt, pa.field("prompt", TOOL_MESSAGES)).append(pa.field(TOOLS, _TEXT))


TOOLS = "tools"
"""The column of tool definitions, as JSON text."""

TABLES: dict[str, Table] = {
    "prompts": Table(
        _schema(prompt=MESSAGES, prompt_id=_TEXT, tags=_TEXTS, reference=_TEXT),
        prompt_records,
    ),
    "pairs": Table(
        _schema(
            prompt=MESSAGES,
            chosen=MESSAGES,
            rejected=MESSAGES,
            chosen_prob=_REAL,
            margin=_REAL,
            prompt_id=_TEXT,
            chosen_id=_TEXT,
            rejected_id=_TEXT,
            principles=_TEXTS,
            judges=_TEXTS,
            agreement=_REAL,
            abstained=_COUNT,
        ),
        pair_records,
    ),
    "responses": Table(
        _schema(
            prompt=MESSAGES,
            completion=MESSAGES,
            prompt_id=_TEXT,
            response_id=_TEXT,
            tags=_TEXTS,
            index=_COUNT,
            origin=_TEXT,
            finish=_TEXT,
            tokens=_COUNT,
        ),
        response_records,
    ),
    "judgments": Table(
        _schema(
            prompt=MESSAGES,
            first=MESSAGES,
            second=MESSAGES,
            preference=_REAL,
            raw_preference=_REAL,
            transforms=_TEXTS,
            margin=_REAL,
            agreement=_REAL,
            position_bias=_REAL,
            abstained=_COUNT,
            prompt_id=_TEXT,
            first_id=_TEXT,
            second_id=_TEXT,
            verdicts=VERDICTS,
        ),
        judgment_records,
    ),
    "demonstrations": Table(
        _schema(
            prompt=MESSAGES,
            completion=MESSAGES,
            prompt_id=_TEXT,
            response_id=_TEXT,
            tags=_TEXTS,
            origin=_TEXT,
            finish=_TEXT,
            preference=_REAL,
        ),
        demonstration_records,
    ),
    "revisions": Table(
        _schema(
            prompt=MESSAGES,
            draft=MESSAGES,
            revision=MESSAGES,
            prompt_id=_TEXT,
            draft_id=_TEXT,
            revision_id=_TEXT,
            tags=_TEXTS,
            rounds=_COUNT,
            principles=_TEXTS,
            changed=pa.bool_(),
            preference=_REAL,
        ),
        revision_records,
    ),
}
"""Kinds of records for export: name to columns and reader."""
