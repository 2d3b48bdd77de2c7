"""Rows, entries and manifests with one obvious default."""

from collections.abc import Sequence
from typing import Any

from rlaif.records import (
    Choice,
    Judgment,
    Order,
    PreferencePair,
    Prompt,
    Response,
    Row,
    Verdict,
    canonical_json,
    content_id,
)
from rlaif.runs import Entry, Manifest, row_to_dict


def make_manifest(**plan) -> Manifest:
    return Manifest.build(
        name="demo",
        plan={"seed": 7, "templates": {"judge/pairwise.j2": "f00"}} | plan,
        config={"concurrency": 4},
        constitution_label="hhh@0123456789ab",
        constitution={"name": "hhh", "principles": [{"id": "brief", "statement": "Be brief."}]},
        engines={"student": {"engine": "scripted", "model": "parrot"}},
    )


def make_entry(number: int, *, text: str = "yes", price: float | None = None, **fields) -> Entry:
    plain: dict[str, Any] = {
        "purpose": "judge",
        "engine": "main",
        "prompt_tokens": 10,
        "completion_tokens": 2,
    }
    return Entry(make_key(number), reply={"text": text}, price=price, **(plain | fields))


def make_key(number: int) -> str:
    return content_id("test-call", number)


def make_verdict(choice: Choice = Choice.A, **fields) -> Verdict:
    plain: dict[str, Any] = {
        "judge": "main",
        "method": "pairwise",
        "principle": "brief",
        "order": Order.AB,
    }
    return Verdict(**(plain | fields), choice=choice)


def make_judgment(
    responses: Sequence[Response], preference: float | None = 0.75, *verdicts: Verdict
) -> Judgment:
    first, second = responses
    return Judgment(
        first_id=first.id,
        second_id=second.id,
        preference=preference,
        raw_preference=preference,
        transforms=(),
        agreement=None if preference is None else 1.0,
        position_bias=None,
        abstained=sum(verdict.choice is Choice.ABSTAIN for verdict in verdicts),
        verdicts=verdicts or (make_verdict(),),
    )


def make_row(number: int, *, text: str = "reply", **parts) -> Row:
    prompt = Prompt.build(f"question {number}", id=f"p{number}", tags=["asked"])
    responses = tuple(Response.build(prompt.id, f"{text} {k}", index=k) for k in range(2))
    pair = PreferencePair(
        prompt.id, responses[0].id, responses[1].id, 0.75, 0.5, ("brief",), ("main",), 1.0, 0
    )
    plain: dict[str, Any] = {
        "responses": responses,
        "judgments": (make_judgment(responses),),
        "pairs": (pair,),
    }
    return Row(content_id("test-row", number), prompt, **(plain | parts))


def row_bytes(row: Row) -> bytes:
    """Everything of a row, for comparing rows to the last bit."""
    return canonical_json(row_to_dict(row))
