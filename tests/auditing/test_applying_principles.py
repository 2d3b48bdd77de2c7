"""An audit of principles that apply calibrates the labels that such a run exports."""

import json
import math
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import rlaif
from rlaif.auditing.statistics.label_calibration import Label as Labelled
from rlaif.engines import Label, Reply, Request, open as opening
from rlaif.engines.scripted import ScriptedEngine

SURE = {"apples": 0.6, "boats": 0.7, "clouds": 0.8, "drums": 0.9}
"""Topic to how sure the judge is of the better response under its principle."""

WEIGHTS = {"apples": 4.0, "boats": 1.0, "clouds": 2.0, "drums": 0.5}


def planted(request: Request, seed: int | None) -> Reply:
    """A principle applies to prompts that name its topic."""
    assert isinstance(request, Label)
    shown = request.messages[-1]["content"]
    topic = next(one for one in SURE if f"about {one} only" in shown)
    if request.labels == ("Yes", "No"):
        sure, other = (0.9, 0.1) if f"of {topic}" in shown else (0.1, 0.9)
    else:
        sure, other = SURE[topic], 1.0 - SURE[topic]
        if shown.index("Good.") > shown.index("Bad."):
            sure, other = other, sure
    return Reply(label_logprobs=(math.log(sure), math.log(other)))


@pytest.mark.parametrize("choose", ["all", "one", {"k": 2}])
def test_labels_before_the_clamp_are_those_of_the_principles_that_applied(
    choose: str | dict[str, int], tmp_path: Path
) -> None:
    topics = list(SURE)
    pairs = [
        {
            "id": f"g{n}",
            "prompt": "Tell me of " + " and of ".join({topics[n % 4], *topics[n % 3 : n % 3 + 2]}),
            "response_a": "Good.",
            "response_b": "Bad.",
            "label": "a",
        }
        for n in range(12)
    ]
    gold = tmp_path / "gold.jsonl"
    gold.write_text("\n".join(map(json.dumps, pairs)))
    principles = [
        {"id": one, "statement": "x", "comparison": f"Is it about {one} only?", "weight": weight}
        for one, weight in WEIGHTS.items()
    ]
    constitution = tmp_path / "c.yaml"
    constitution.write_text(json.dumps({"name": "t", "version": "1", "principles": principles}))
    settings = {
        "judges": [{"name": "main", "engine": "scripted", "model": "judge"}],
        "constitution": str(constitution),
        "principles": {"choose": choose},
        "relevance": "model",
        "repeats": 1,
    }
    tried: list[Labelled] = []

    def keep(labels: list[Labelled], *_: Any, **__: Any) -> str:
        tried.extend(labels)
        return "no calibration: a test"

    def build(**_: Any) -> ScriptedEngine:
        return ScriptedEngine(planted, name="judge")

    _, used = opening._BUILDERS["scripted"]
    with (
        patch.dict(opening._BUILDERS, {"scripted": (build, used)}),
        patch.dict(rlaif.audit.__globals__, {"try_calibration": keep}),
    ):
        rlaif.audit(settings, [gold], out=tmp_path / "audit")
    assert len({label.exported for label in tried}) > 1
    # The judge has no clamp and no calibration, so there is nothing between the two.
    assert [one.before_clamp for one in tried] == pytest.approx([one.exported for one in tried])
