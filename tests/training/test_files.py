"""Data sets as they lie on disk: splits, saved sets, JSON of every shape."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from rlaif.errors import InputError, RecordError
from rlaif.training.data.files import split_of
from rlaif.training.data.read import (
    GOLD_SPLITS,
    load_demonstrations,
    load_preferences,
    read_preferences,
)
from rlaif.training.dpo.train import train_dpo
from rlaif.training.ppo.train import train_ppo
from tests.training.tiny import assistant, colour_pairs, user


def write(folder: Path, **rows: int) -> Path:
    """Write a Parquet file for each name, whose prompt ids tell it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in rows.items():
        path = folder / f"{name.replace('__', '/')}.parquet"
        path.parent.mkdir(exist_ok=True)
        Dataset.from_list([{**row, "prompt_id": name} for row in colour_pairs(count)]).to_parquet(
            path
        )
    return folder


def origins(source: Any, **options: Any) -> set[str]:
    return set(load_preferences(source, **options)["prompt_id"])


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("data/test-00000-of-00001.parquet", "test"),
        ("my_eval.jsonl", "test"),
        ("pairs.dev.jsonl", "validation"),
        ("validation/part-0.parquet", "validation"),
        ("train_prefs-00000-of-00001.parquet", "train_prefs"),
        ("latest.parquet", ""),
        ("contest/retrained.jsonl", ""),
    ],
)
def test_the_name_of_a_file_shows_its_split(name: str, split: str):
    assert split_of(name) == split


def test_a_folder_with_train_and_test_files_is_read_for_training_alone(tmp_path: Path):
    write(tmp_path, **{"train-0": 4, "test-0": 3, "validation": 2})
    loaded = read_preferences(tmp_path)
    assert set(loaded.dataset["prompt_id"]) == {"train-0"}
    assert "split train is read; left out: test, validation" in loaded.notes[0]
    assert origins(tmp_path, split="test") == {"test-0"}
    assert set(read_preferences(tmp_path, splits=GOLD_SPLITS).dataset["prompt_id"]) == {"test-0"}


def test_files_of_no_split_beside_a_test_file_are_what_is_trained_on(tmp_path: Path):
    write(tmp_path, pairs=4, more=2, test=3)
    assert origins(tmp_path) == {"pairs", "more"}


def test_folders_named_for_splits_are_splits(tmp_path: Path):
    write(tmp_path, train__0=4, test__0=3)
    assert origins(tmp_path) == {"train__0"}


def test_nothing_but_a_test_set_is_refused_with_the_way_out(tmp_path: Path):
    write(tmp_path, **{"test-0": 3})
    with pytest.raises(InputError, match="no split train; its splits are test") as caught:
        load_preferences(tmp_path)
    assert "split" in caught.value.hint
    assert origins(tmp_path, split="test") == {"test-0"}


def test_a_split_that_is_not_there_is_refused(tmp_path: Path):
    write(tmp_path, pairs=4)
    with pytest.raises(InputError, match="no split test; its splits are train"):
        load_preferences(tmp_path, split="test")
    with pytest.raises(InputError, match="has no split test"):
        load_preferences(tmp_path / "pairs.parquet", split="test")
    with pytest.raises(InputError, match="has no split test"):
        load_preferences(colour_pairs(4), split="test")


def test_a_test_file_that_is_named_is_read_and_that_is_said(tmp_path: Path):
    write(tmp_path, test=3)
    loaded = read_preferences(tmp_path / "test.parquet")
    assert "it says that it is the split test" in loaded.notes[0]


@pytest.mark.parametrize("saved", [True, False])
def test_splits_of_a_dictionary_are_chosen(saved: bool, tmp_path: Path):
    both = {name: colour_pairs(n).select_columns(["prompt", "chosen", "rejected"]) for name, n in
            (("train", 4), ("test", 3))}  # fmt: skip
    source: Any = DatasetDict(both)
    alone: Any = DatasetDict({"test": both["test"]})
    if saved:
        source.save_to_disk(tmp_path / "both")
        alone.save_to_disk(tmp_path / "alone")
        source, alone = tmp_path / "both", tmp_path / "alone"
    assert len(load_preferences(source)) == 4
    assert len(load_preferences(source, split="test")) == 3
    with pytest.raises(InputError, match="no split train; its splits are test"):
        load_preferences(alone)


def test_hub_splits_are_chosen(monkeypatch: pytest.MonkeyPatch):
    parts = DatasetDict({"train_prefs": colour_pairs(4), "test_prefs": colour_pairs(3)})
    monkeypatch.setattr("rlaif.training.data.read.load_dataset", lambda _: parts)
    with pytest.raises(InputError, match="no split train; its splits are test_prefs, train_prefs"):
        load_preferences("owner/name")
    assert len(load_preferences("owner/name", split="train_prefs")) == 4


def test_a_training_takes_the_split_its_file_names(tiny: Path, tmp_path: Path):
    data = write(tmp_path / "data", train=4, test=8)
    for split, steps in (("train", 1), ("test", 2)):
        out = tmp_path / split
        assert (
            train_dpo(model=tiny, dataset=data, out=out, split=split, batch_size=4).steps == steps
        )


def test_a_folder_that_another_program_describes_is_read(tmp_path: Path):
    write(tmp_path / "data", train=4)
    (tmp_path / "dataset_info.json").write_text('{"demo": {"file_name": "data/train.parquet"}}')
    assert len(load_preferences(tmp_path)) == 4


def test_json_is_read_in_every_shape(tmp_path: Path):
    rows = list(colour_pairs(4))
    rows[2]["chosen"] = assistant("good " * 300_000)  # 1.5 MB in one row
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for name, text in {
        "lines.jsonl": lines,
        "lines.json": lines,
        "list.json": json.dumps(rows, indent=1),
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        loaded = load_preferences(tmp_path / name)
        assert len(loaded) == 4
        assert len(loaded["chosen"][2][0]["content"]) == 1_500_000


def test_a_column_that_starts_later_is_not_lost(tmp_path: Path):
    first, second = list(colour_pairs(2, p=0.9))
    del first["chosen_prob"]
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    with pytest.raises(InputError, match="row 1: chosen_prob is None"):
        load_preferences(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "a"}\n[1]\n', "line 2 is not an object"),
        ('{"prompt": "a"}\n{"prompt": \n', "line 2: not JSON"),
        ('{"prompt": "a"}\n{"prompt": 1}\n', "values of prompt differ in type"),
    ],
)
def test_what_cannot_be_read_names_its_place(text: str, message: str, tmp_path: Path):
    (tmp_path / "pairs.jsonl").write_text(text)
    with pytest.raises(RecordError, match=message):
        load_preferences(tmp_path / "pairs.jsonl")


def test_tools_whose_arguments_differ_in_type_are_read(tmp_path: Path):
    def row(value: Any) -> dict[str, Any]:
        function = {"name": "colour", "arguments": {"of": value}}
        calls = [{"type": "function", "function": function}]
        reply = {"role": "assistant", "content": "", "tool_calls": calls}
        tool = {"type": "function", "function": {"name": "colour", "parameters": {"of": value}}}
        return {"messages": [*user("say"), reply], "tools": [tool]}

    path = tmp_path / "calls.jsonl"
    path.write_text(f"{json.dumps(row(1))}\n{json.dumps(row('sky'))}\n")
    calls = [turns[0]["tool_calls"][0] for turns in load_demonstrations(path)["completion"]]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [
        {"of": 1},
        {"of": "sky"},
    ]


@pytest.mark.parametrize("p", ["0.8", True, "high"])
def test_a_label_that_is_not_a_number_is_refused_with_its_row(p: Any):
    with pytest.raises(InputError, match=r"row 1: chosen_prob is .*, not a number"):
        load_preferences(colour_pairs(4, p=p))


def test_whole_numbers_are_labels_too():
    assert list(load_preferences(colour_pairs(2, p=1))["chosen_prob"]) == [1.0, 1.0]


def test_rows_that_teach_to_answer_nothing_are_left_out_and_counted():
    pairs = [*colour_pairs(2), {**colour_pairs(1)[0], "chosen": assistant(" ")}]
    assert read_preferences(Dataset.from_list(pairs)).left_out == {"empty-chosen": 1}
    rows = [{"prompt": "a", "completion": ""}, {"prompt": "a", "completion": "b"}]
    assert list(load_demonstrations(Dataset.from_list(rows))["completion"]) == ["b"]
    silent = [{"messages": user("a") + assistant("")}]
    with pytest.raises(InputError, match="no conversation has a reply"):
        load_demonstrations(Dataset.from_list(silent))


def test_a_prompt_column_beside_messages_does_not_replace_the_conversation():
    talk = user("a") + assistant("b") + user("c") + assistant("d")
    rows = load_demonstrations(Dataset.from_list([{"prompt": "a", "messages": talk}]))
    assert rows["prompt"][0] == talk[:3]


def test_prompts_of_a_test_set_are_not_trained_on_with_the_rest(tiny: Path, tmp_path: Path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text('{"prompt": "say red"}\n')

    config = {
        "model": str(tiny),
        "out": str(tmp_path / "out"),
        "rollouts": 1,
        "rollout_size": 2,
        "minibatch_size": 2,
        "max_new_tokens": 4,
        "critic_warmup": 0,
    }
    for path in (str(tmp_path), str(tmp_path / "*.jsonl")):
        with pytest.raises(InputError, match="several splits: test, train"):
            train_ppo({**config, "prompts": {"path": path}}, scorer=score_zero)
    train_ppo({**config, "prompts": {"path": str(tmp_path / "tr*.jsonl")}}, scorer=score_zero)


def score_zero(_: Any, responses: list[str], **columns: Any) -> list[float]:
    return [0.0] * len(responses)
