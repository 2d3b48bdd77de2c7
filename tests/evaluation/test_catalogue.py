"""The documentation lists the measures that an evaluation takes, with their directions."""

import re
from pathlib import Path

from rlaif.evaluation.catalogue import ALWAYS, BY_JUDGES
from rlaif.evaluation.diversity import likelihood_measure
from rlaif.evaluation.judged import LENGTH_CONTROLLED
from rlaif.evaluation.judged_refusals import JUDGED_FULL_REFUSALS, JUDGED_REFUSALS
from rlaif.evaluation.rules import RULES, rule_measure
from rlaif.evaluation.wins import RULE_WINS
from tests.evaluation.factories import BRIEF

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"
ARROWS = {"higher": "↑", "lower": "↓"}


def documented() -> dict[str, str]:
    """Names in the table, written out, with what its last column says."""
    section = DOCS.read_text("utf-8").split("## The measures")[1].split("\n## ")[0]
    directions: dict[str, str] = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            names, _, direction = (cell.strip() for cell in line.strip("|").split("|"))
            first, *others = re.findall("`([^`]+)`", names)
            # `distinct-1`, `-2` is short for `distinct-1`, `distinct-2`.
            written = [first[: -len(name)] + name if name[0] == "-" else name for name in others]
            directions |= dict.fromkeys([first, *written], direction)
    return directions


def test_the_documentation_lists_every_measure_and_its_direction() -> None:
    measures = [
        RULES,
        rule_measure(BRIEF),
        *ALWAYS,
        likelihood_measure("base"),
        RULE_WINS,
        *BY_JUDGES,
        LENGTH_CONTROLLED,
        JUDGED_REFUSALS,
        JUDGED_FULL_REFUSALS,
    ]
    directions = {
        one.name.replace(BRIEF.id, "<id>"): "by tag"
        if one.name.startswith("refusals")
        else ARROWS.get(one.better, "")
        for one in measures
    }
    assert documented() == directions
