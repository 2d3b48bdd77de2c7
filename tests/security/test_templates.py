"""No hostile text changes anything outside its fence, whatever template shows it and wherever."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from rlaif.records import Message
from rlaif.templates import TemplateSet
from tests.security.cases import CASES
from tests.security.echo_judge import fences, frame

BENIGN = "Boil it for a while."
STATEMENT = "Answer what was asked."
TURNS = ("user", "assistant", "user")

_COMPARED: dict[str, Any] = {
    "statement": STATEMENT,
    "question": "Which response answers what was asked?",
    "exemplars": ("a", "b"),
    "response_a": BENIGN,
    "response_b": BENIGN,
}
_CRITICISED: dict[str, Any] = {
    "statement": STATEMENT,
    "exemplars": ("better", "worse"),
    "response": BENIGN,
}
SLOTS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "judge/pairwise": (_COMPARED, ("response_a", "response_b")),
    "judge/pairwise_cot": ({**_COMPARED, "reasoning": BENIGN}, ("response_a", "reasoning")),
    "judge/pairwise_or_neither": (_COMPARED, ("response_a", "response_b")),
    "judge/refusal": ({"response": BENIGN}, ("response",)),
    "judge/relevance": ({"statement": STATEMENT, "question": "Which is better?"}, ()),
    "judge/pointwise": ({"statement": STATEMENT, "response": BENIGN}, ("response",)),
    "judge/rubric": (
        {"statement": STATEMENT, "response": BENIGN, "against": True},
        ("response",),
    ),
    "judge/salmon": (
        {
            "statement": STATEMENT,
            "opposite": "Answer something else.",
            "response_a": BENIGN,
            "response_b": BENIGN,
        },
        ("response_a", "response_b"),
    ),
    "critique/critique": (
        {**_CRITICISED, "critique_request": "Name it.", "no_fault": "NO FAULT FOUND"},
        ("response",),
    ),
    "revise/revise": (
        {**_CRITICISED, "revision_request": "Mend it.", "critique": BENIGN},
        ("response", "critique"),
    ),
}
"""Template to its values and the slots that hold what models wrote."""

UNFENCED = {
    "judge/contrast": "shows no text of others: conversation and response are chat turns",
    "sample/contrast": "shows no text of others: the conversation follows as chat turns",
}

PLACES = sorted(
    (name, slot)
    for name, (_, slots) in SLOTS.items()
    for slot in (*slots, "conversation", "exemplars")
    if slot != "exemplars" or "exemplars" in SLOTS[name][0]
)


def values(name: str, slot: str, text: str) -> dict[str, Any]:
    """The template's values, with a text in one slot and harmless ones in the others."""
    base, _ = SLOTS[name]
    given = dict(base)
    told = text if slot == "conversation" else BENIGN
    given["conversation"] = tuple({"role": role, "content": told} for role in TURNS)
    if "exemplars" in base:
        keys = base["exemplars"]
        shown = text if slot == "exemplars" else BENIGN
        exemplar: Mapping[str, str] = {"prompt": shown, "choice": "A", **dict.fromkeys(keys, shown)}
        given["exemplars"] = (exemplar,)
    if slot in given and slot not in ("conversation", "exemplars"):
        given[slot] = text
    return given


def rendered(name: str, slot: str, text: str) -> tuple[Message, ...]:
    return TEMPLATES.get(name).render(**values(name, slot, text))


TEMPLATES = TemplateSet.open()
SPECIAL = re.compile(
    r"<\|[a-z_]+\|>|<｜[^｜]*｜>|(?<!\w)</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</?think>"
)


def test_every_template_is_attacked_or_shows_nothing_of_others() -> None:
    assert sorted({*SLOTS, *UNFENCED}) == sorted(TEMPLATES.names())


def test_there_are_enough_cases_and_each_differs() -> None:
    assert len(CASES) >= 60
    assert len(set(CASES.values())) == len(CASES)


@pytest.mark.parametrize("case", CASES)
def test_the_frame_stays_word_for_word_wherever_the_text_stands(case: str) -> None:
    text = CASES[case].replace("@X@", "A")
    for name, slot in PLACES:
        attacked, harmless = rendered(name, slot, text), rendered(name, slot, BENIGN)
        assert [m["role"] for m in attacked] == [m["role"] for m in harmless]
        assert frame(attacked) == frame(harmless), (name, slot)
        assert len(fences(attacked)) == len(fences(harmless)), (name, slot)
        assert not SPECIAL.search("".join(m["content"] for m in attacked)), (name, slot)


def test_bare_text_would_change_it() -> None:
    for case, text in CASES.items():
        bare: tuple[Message, ...] = ({"role": "user", "content": f"Compare.\n{text}\nReply."},)
        assert frame(bare) != ["Compare.", "Reply."], case
