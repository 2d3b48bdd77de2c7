import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from rlaif.errors import InputError
from rlaif.training.data.mix import Part, mix_in
from rlaif.training.data.read import Loaded
from rlaif.training.sft import train_sft
from tests.training.tiny import assistant, user


def set_of(name: str, count: int) -> Loaded:
    rows = [{"prompt": user(f"{name} {i}"), "completion": assistant("good")} for i in range(count)]
    return Loaded(Dataset.from_list(rows), (), {}, name)


def names_in(loaded: Loaded) -> list[str]:
    return [row["prompt"][0]["content"].split()[0] for row in loaded.dataset]


@pytest.mark.parametrize(("ratio", "rows"), [(0.5, 5), (1.0, 10), (1.25, 13), (2.0, 20)])
def test_a_ratio_is_rows_per_row_of_the_main_set(ratio: float, rows: int):
    mixed = mix_in(set_of("main", 10), [Part(set_of("more", 30), ratio)], plain=False, seed=0)
    names = names_in(mixed)
    assert (names.count("main"), names.count("more")) == (10, rows)


def test_a_set_that_is_too_small_gives_all_its_rows_once_with_a_note():
    mixed = mix_in(set_of("main", 10), [Part(set_of("more", 3), 1.0)], plain=False, seed=0)
    assert names_in(mixed).count("more") == 3
    assert "it has only 3 of the 10 asked for" in " ".join(mixed.notes)


def test_the_draw_depends_on_the_seed_alone():
    parts = [Part(set_of("more", 40), 0.5)]
    one, again, other = (
        mix_in(set_of("main", 20), parts, plain=False, seed=seed) for seed in (1, 1, 2)
    )
    assert one.dataset["prompt"] == again.dataset["prompt"]
    assert one.dataset["prompt"] != other.dataset["prompt"]


def test_texts_become_turns_beside_conversations():
    texts = Loaded(Dataset.from_list([{"prompt": "a", "completion": "b"}]), (), {}, "texts")
    mixed = mix_in(set_of("main", 1), [Part(texts, 1.0)], plain=False, seed=0)
    assert mixed.dataset[1]["prompt"] == user("a")
    with pytest.raises(InputError, match="one set holds texts and another conversations"):
        mix_in(set_of("main", 1), [Part(texts, 1.0)], plain=True, seed=0)


def test_sft_trains_on_the_mixture_and_its_card_says_so(tiny: Path, tmp_path: Path):
    more = tmp_path / "more.jsonl"
    rows: list[dict[str, Any]] = [
        {"messages": user(f"name {colour}") + assistant("yes")} for colour in ("red", "blue")
    ]
    more.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = train_sft(
        dataset=set_of("say", 4).dataset,
        model=tiny,
        out=tmp_path / "out",
        batch_size=1,
        mix=[{"data": str(more), "ratio": 0.5}],
    )
    assert result.steps == 6
    assert "mixed in: 2 rows of" in (tmp_path / "out/README.md").read_text()
