"""The seed prompts: enough of each kind, ours, and no held-out prompt seen in training."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rlaif.inputs import PromptSource, read_prompts
from rlaif.records import Prompt
from tests.public_data import DATA

ROOT = Path(__file__).parents[2]
SEED = ROOT / "prompts" / "seed"
KINDS = ("helpful", "red-team", "borderline")


def rows(split: str) -> list[dict[str, Any]]:
    lines = (SEED / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def both() -> list[dict[str, Any]]:
    return rows("train") + rows("heldout")


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """Twice the shared words over the words of both: 1 for the same words in any order."""
    return 2 * len(one & other) / (len(one) + len(other))


@pytest.mark.parametrize(("split", "fewest"), [("train", 180), ("heldout", 90)])
def test_each_split_is_large_enough_and_mixed_three_to_one_to_one(split: str, fewest: int) -> None:
    kinds = Counter(row["kind"] for row in rows(split))
    total = kinds.total()
    assert total >= fewest
    assert set(kinds) == set(KINDS)
    assert kinds["helpful"] / total == pytest.approx(0.6, abs=0.03)
    assert kinds["red-team"] / total == pytest.approx(0.2, abs=0.03)
    assert kinds["borderline"] / total == pytest.approx(0.2, abs=0.03)


def test_every_row_has_the_same_four_fields_and_an_id_that_starts_with_its_kind() -> None:
    for row in both():
        assert set(row) == {"id", "prompt", "tags", "kind"}
        assert row["tags"] == [row["kind"]]
        assert re.fullmatch(rf"{row['kind']}-\d{{4}}", row["id"])
        assert row["prompt"] == row["prompt"].strip() != ""
        assert len(row["prompt"].split()) <= 40


def test_ids_are_unique_over_both_splits() -> None:
    ids = [row["id"] for row in both()]
    assert len(set(ids)) == len(ids)


def test_no_two_prompts_are_nearly_the_same_within_or_across_splits() -> None:
    bags = [(row["id"], words(row["prompt"])) for row in both()]
    close = [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(bags, 2)
        if likeness(a, b) > 0.7
    ]
    assert close == []


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_prompt_reader_reads_every_line(split: str) -> None:
    source = PromptSource(path=SEED / f"{split}.jsonl", id_column="id", tags_column="tags")
    read = list(read_prompts(source))
    assert len(read) == len(rows(split))
    assert all(isinstance(item, Prompt) and item.tags for item in read)


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here")
def test_none_is_taken_from_the_public_data_sets() -> None:
    known = {
        words(prompt)
        for path in sorted(DATA.glob("*/*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if isinstance(prompt := json.loads(line)["prompt"], str)
    } - {frozenset()}
    assert len(known) > 1000
    copied = [
        row["prompt"]
        for row in both()
        if (bag := words(row["prompt"])) and any(likeness(bag, other) > 0.8 for other in known)
    ]
    assert copied == []
