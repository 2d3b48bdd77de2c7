"""A small finished run whose exports can be told by heart."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rlaif.records import PreferencePair, Prompt, Response, Revision, Row, content_id
from rlaif.runs import Run, RunWriter, open_run
from tests.runs.made import make_judgment, make_manifest

CONVERSATIONS: tuple[tuple[list[dict[str, str]], float], ...] = (
    ([{"role": "user", "content": "say the sky"}], 0.9),
    ([{"role": "system", "content": "say yes"}, {"role": "user", "content": "name the sea"}], 0.6),
    ([{"role": "user", "content": "say a tree"}, {"role": "user", "content": "say more"}], 0.75),
)
"""What was asked, and the label of "good blue" over "bad red"; the last does not alternate."""


def make_run(folder: Path, *, revised: bool = False) -> Run:
    """Write a run with a row for each conversation; its last draft has no demonstration.

    Where ``revised``, the good response is the revision of the bad one.
    """
    with RunWriter(folder / "run", make_manifest()) as writer:
        for number, (messages, p) in enumerate(CONVERSATIONS):
            row = make_row(number, messages, p)
            good, bad = row.responses
            step = Revision(bad.id, good.id, "brief", 1)
            writer.add_row(replace(row, revisions=(step,)) if revised else row)
    return open_run(folder / "run")


def make_row(number: int, messages: Any, p: float) -> Row:
    prompt = Prompt.build(messages, id=f"p{number}", tags=["colour"])
    responses = tuple(
        Response.build(prompt.id, text, index=k) for k, text in enumerate(("good blue", "bad red"))
    )
    chosen, rejected = responses
    pair = PreferencePair(
        prompt.id, chosen.id, rejected.id, p, 2 * p - 1, ("brief",), ("main",), 1.0, 0
    )
    return Row(
        f"{number:02x}" + content_id("row")[2:],  # rows lie by id: in the order of numbers
        prompt,
        responses,
        judgments=(make_judgment(responses, p),),
        pairs=(pair,),
    )
