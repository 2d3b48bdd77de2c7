import json
from typing import Any

import pytest
from datasets import Dataset

from rlaif.errors import InputError, RecordError
from rlaif.training.data.read import (
    load_demonstrations,
    load_preferences,
    read_demonstrations,
    read_preferences,
    split_held_out,
)
from tests.training.tiny import assistant, colour_pairs, user


def rows(**changes: Any) -> Dataset:
    row = {"prompt": user("say red"), "chosen": assistant("red"), "rejected": assistant("no")}
    return Dataset.from_list([row | {"chosen_prob": 0.8} | changes])


def test_an_export_folder_is_read(tmp_path):
    (tmp_path / "data").mkdir()
    colour_pairs(5).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    assert load_preferences(tmp_path)["prompt"][0] == colour_pairs(5)["prompt"][0]


def test_several_files_are_one_data_set(tmp_path):
    for i in range(2):
        colour_pairs(3).to_parquet(tmp_path / f"{i}.parquet")
    assert len(load_preferences(str(tmp_path))) == 6


def test_json_lines_are_read(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in colour_pairs(4)), encoding="utf-8")
    assert len(load_preferences(path)) == 4


def test_a_saved_data_set_is_read(tmp_path):
    colour_pairs(4).save_to_disk(tmp_path / "saved")
    assert len(load_preferences(tmp_path / "saved")) == 4


def test_a_broken_file_is_one_clear_line(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "a", \n nonsense', encoding="utf-8")
    with pytest.raises(RecordError, match=r"pairs\.jsonl: cannot be read"):
        load_preferences(path)


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match="no such file"):
        load_preferences("no/such/pairs.parquet")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no Parquet or JSONL"):
        load_preferences(tmp_path)


def test_an_empty_set_is_refused():
    with pytest.raises(InputError, match="the data set is empty"):
        load_preferences(Dataset.from_dict({"prompt": [], "chosen": [], "rejected": []}))


def test_missing_columns_are_named_with_those_that_are_there():
    with pytest.raises(InputError, match="missing column: rejected") as caught:
        load_preferences(Dataset.from_dict({"prompt": ["a"], "chosen": ["b"]}))
    assert caught.value.hint == "its columns are prompt, chosen"


@pytest.mark.parametrize("p", [0.3, 1.2, float("nan"), None])
def test_a_label_outside_its_range_is_refused_with_its_row(p):
    with pytest.raises(InputError, match="row 1: chosen_prob is"):
        load_preferences(rows(chosen_prob=p))


def test_nothing_but_ties_is_refused():
    with pytest.raises(InputError, match=r"all 8 pairs have chosen_prob 0\.5"):
        load_preferences(colour_pairs(8, p=0.5))


def test_a_missing_label_is_taken_as_certain_and_said():
    loaded = read_preferences(rows().remove_columns("chosen_prob"))
    assert list(loaded.dataset["chosen_prob"]) == [1.0]
    assert "no chosen_prob column" in loaded.notes[0]


def test_pairs_of_twice_the_same_response_are_left_out_and_counted():
    both = Dataset.from_list([*rows(), *rows(rejected=assistant("red"))])
    loaded = read_preferences(both)
    assert len(loaded.dataset) == 1
    assert loaded.left_out == {"identical": 1}


def test_labels_a_and_b_become_chosen_and_rejected():
    base = {"prompt": "x", "response_a": "first", "response_b": "second"}
    loaded = read_preferences(
        Dataset.from_list([base | {"label": label} for label in ("a", "b", "tie")])
    )
    assert list(loaded.dataset["chosen"]) == ["first", "second"]
    assert loaded.left_out == {"tie": 1}


def test_an_unknown_label_is_named():
    row = {"prompt": "x", "response_a": "1", "response_b": "2", "label": "both"}
    with pytest.raises(InputError, match="row 1: label is 'both'"):
        load_preferences(Dataset.from_list([row]))


def test_a_prompt_may_be_the_common_start_of_both_sides():
    whole = Dataset.from_list(
        [{"chosen": user("q") + assistant("yes"), "rejected": user("q") + assistant("no")}]
    )
    loaded = load_preferences(whole)
    assert loaded["prompt"][0] == user("q")
    assert loaded["chosen"][0] == assistant("yes")


def test_the_last_assistant_turn_is_the_demonstration():
    talk = user("a") + assistant("b") + user("c") + assistant("d")
    rows = load_demonstrations(Dataset.from_list([{"messages": talk}]))
    assert rows["prompt"][0] == talk[:3]
    assert rows["completion"][0] == talk[3:]


def test_every_assistant_turn_can_be_a_demonstration():
    talk = user("a") + assistant("b") + user("c") + assistant("d")
    rows = load_demonstrations(Dataset.from_list([{"messages": talk}]), turns="all")
    assert [row["content"] for turn in rows["completion"] for row in turn] == ["b", "d"]


def test_conversations_without_a_reply_are_counted():
    loaded = read_demonstrations(
        Dataset.from_list([{"messages": user("a")}, {"messages": user("a") + assistant("b")}])
    )
    assert loaded.left_out == {"no-assistant-turn": 1}


def test_response_is_another_name_for_completion():
    rows = load_demonstrations(Dataset.from_list([{"prompt": "a", "response": "b"}]))
    assert list(rows["completion"]) == ["b"]


def test_a_prompt_lies_wholly_on_one_side_whatever_else_is_there():
    many = colour_pairs(32)
    train, held = split_held_out(many, 0.4, seed=1)
    assert held is not None
    assert len(train) + len(held) == 32
    sides = {str(p) for p in train["prompt"]}, {str(p) for p in held["prompt"]}
    assert not sides[0] & sides[1]
    fewer, _ = split_held_out(many.select(range(16)), 0.4, seed=1)
    assert {str(p) for p in fewer["prompt"]} <= sides[0]


def test_a_share_that_leaves_a_side_empty_is_refused():
    with pytest.raises(InputError, match="would be held out"):
        split_held_out(colour_pairs(2), 0.0001, seed=0)
