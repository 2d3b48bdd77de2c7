import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlaif.errors import InputError
from rlaif.pipeline import export
from rlaif.pipeline.export import FORMATS
from rlaif.pipeline.export.labels import Labels
from rlaif.pipeline.export.shape import DATA_FILE
from rlaif.records import Prompt
from rlaif.runs import Run, RunWriter, open_run, tables
from tests.e2e.project import rlaif
from tests.pipeline.exported import CONVERSATIONS, make_row, make_run
from tests.records.test_tool_use import ASKED, CALL, WEATHER
from tests.runs.made import make_judgment, make_manifest, make_row as made_row, make_verdict

MARKS = {"prompt_id", "constitution", "run"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def revised(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("revised"), revised=True)


def rows(run: Run, folder: Path, **options: Any) -> list[dict[str, Any]]:
    out = folder / "data-set"
    export(run, out, force=True, **options)
    found: list[dict[str, Any]] = pq.read_table(out / "data").to_pylist()
    return found


def only_messages(found: Any) -> bool:
    return bool(found) and all(set(one) == {"role", "content"} for one in found)


def check_openrlhf_pairs(row: dict[str, Any]) -> None:
    assert set(row) == {"prompt", "chosen", "rejected", "margin"} | MARKS
    assert all(only_messages(row[name]) for name in ("prompt", "chosen", "rejected"))
    assert [one["role"] for one in row["chosen"] + row["rejected"]] == ["assistant"] * 2
    assert isinstance(row["margin"], float)


def check_openrlhf_demonstrations(row: dict[str, Any]) -> None:
    assert set(row) == {"input", "output"} | MARKS
    assert only_messages(row["input"])
    assert only_messages(row["output"])


def check_openrlhf_prompts(row: dict[str, Any]) -> None:
    assert set(row) == {"prompt", "label", "datasource"} | MARKS
    assert json.loads(row["label"])["prompt"] == row["prompt"]


def check_verl_prompts(row: dict[str, Any]) -> None:
    assert set(row) == {"data_source", "prompt", "ability", "reward_model", "extra_info"} | MARKS
    assert row["reward_model"] == {"style": "rule", "ground_truth": "good blue"}
    assert isinstance(row["extra_info"]["index"], int)
    assert row["extra_info"]["prompt"] == row["prompt"]


def check_messages(row: dict[str, Any]) -> None:
    assert only_messages(row["messages"])
    assert row["messages"][-1]["role"] == "assistant"


def check_llama_factory_pairs(row: dict[str, Any]) -> None:
    assert set(row) == {"messages", "chosen", "rejected"} | MARKS
    assert row["messages"][-1]["role"] == "user"
    assert set(row["chosen"]) == set(row["rejected"]) == {"role", "content"}


def check_axolotl_pairs(row: dict[str, Any]) -> None:
    assert set(row) == {"messages", "chosen", "rejected"} | MARKS
    assert all(only_messages(row[name]) for name in ("messages", "chosen", "rejected"))


CHECKS = {
    ("openrlhf", "pairs"): check_openrlhf_pairs,
    ("openrlhf", "demonstrations"): check_openrlhf_demonstrations,
    ("openrlhf", "prompts"): check_openrlhf_prompts,
    ("verl", "demonstrations"): check_messages,
    ("verl", "prompts"): check_verl_prompts,
    ("llama-factory", "pairs"): check_llama_factory_pairs,
    ("llama-factory", "demonstrations"): check_messages,
    ("axolotl", "pairs"): check_axolotl_pairs,
    ("axolotl", "demonstrations"): check_messages,
    ("messages", "responses"): check_messages,
}


@pytest.mark.parametrize(("to", "what"), CHECKS)
def test_every_row_has_the_columns_its_consumer_documents(
    to: str, what: str, run: Run, tmp_path: Path
):
    found = rows(run, tmp_path, to=to, what=what)
    assert found
    for row in found:
        CHECKS[to, what](row)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("what", tables.TABLES)
def test_every_kind_is_written_or_refused_with_the_reason(
    to: str, what: str, revised: Run, tmp_path: Path
):
    if what in FORMATS[to].shapes:
        assert export(revised, tmp_path / "out", to=to, what=what).to == to
        assert pq.read_schema(next((tmp_path / "out" / "data").iterdir())).names
        return
    with pytest.raises(InputError, match=f"--to {to} has no {what}: ") as raised:
        export(revised, tmp_path / "out", to=to, what=what)
    assert FORMATS[to].refused[what] in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("to", "what"), [(to, what) for to in FORMATS for what in FORMATS[to].shapes]
)
def test_the_card_names_the_columns_that_are_there_and_explains_no_other(
    to: str, what: str, revised: Run, tmp_path: Path
):
    card = _card(revised, tmp_path / "out", to=to, what=what)
    names = pq.read_schema(tmp_path / "out" / DATA_FILE).names
    listed, *explained = card.partition("## Columns\n\n")[2].partition("\n\n## ")[0].splitlines()
    assert listed == ", ".join(f"`{name}`" for name in names)
    subjects = [line.partition(": ")[0].removeprefix("- ").strip("`") for line in explained if line]
    assert set(subjects) <= set(names)
    # whatever is a number between 0 and 1 is explained
    assert {"chosen_prob", "margin", "preference"} & set(names) <= set(subjects)


def test_soft_labels_become_a_smoothing_that_is_said(run: Run, tmp_path: Path):
    found = export(run, tmp_path / "out", to="openrlhf")
    # by hand: (0.1 + 0.4 + 0.25) / 3
    assert found.label_smoothing == pytest.approx(0.25)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`--model.label_smoothing` = 0.2500" in card
    assert export(run, tmp_path / "trl").label_smoothing is None
    assert "takes no label smoothing" in _card(run, tmp_path / "axolotl", to="axolotl")


def test_the_smoothing_is_that_of_the_pairs_kept(run: Run, tmp_path: Path):
    found = export(run, tmp_path / "out", to="openrlhf", min_margin=0.5)
    assert (found.records, found.left_out) == (2, 1)
    assert found.label_smoothing == pytest.approx((0.1 + 0.25) / 2)


def test_repeated_pairs_are_swapped_in_the_share_of_the_doubt(run: Run, tmp_path: Path):
    found = rows(run, tmp_path, to="openrlhf", repeat=10)
    assert len(found) == 30
    as_labelled = Counter(
        row["prompt_id"] for row in found if row["chosen"][0]["content"] == "good blue"
    )
    assert as_labelled == {"p0": 9, "p1": 6, "p2": 8}  # 7.5 is rounded up
    assert {row["margin"] for row in found} == {0.0}
    assert "written 10 times" in (tmp_path / "data-set" / "README.md").read_text()


def test_the_gradient_of_repeated_pairs_is_that_of_the_soft_loss():
    import torch

    x = torch.tensor(0.3, requires_grad=True)
    record = {"chosen": 1.0, "rejected": -1.0, "chosen_id": "c", "rejected_id": "r"}
    copies = list(Labels(repeat=10).apply(iter([{**record, "chosen_prob": 0.7, "margin": 0.4}])))
    hard = torch.stack([-torch.nn.functional.logsigmoid(one["chosen"] * x) for one in copies])
    (gradient,) = torch.autograd.grad(hard.mean(), x)
    assert gradient.item() == pytest.approx(torch.sigmoid(x).item() - 0.7)


def test_repeating_what_keeps_its_labels_is_refused(run: Run, tmp_path: Path):
    for options in ({"to": "trl"}, {"to": "openrlhf", "what": "prompts"}):
        with pytest.raises(InputError, match="formats without soft labels"):
            export(run, tmp_path / "out", repeat=2, **options)  # type: ignore[arg-type]


def test_turns_that_do_not_alternate_are_left_out_for_llama_factory_and_counted(
    run: Run, tmp_path: Path
):
    found = export(run, tmp_path / "out", to="llama-factory")
    assert (found.records, found.unsayable) == (2, 1)
    assert (
        "1 records were left out: they have turns that do not alternate."
        in (tmp_path / "out" / "README.md").read_text()
    )
    entry = json.loads((tmp_path / "out" / "dataset_info.json").read_text())["demo"]
    assert (entry["ranking"], entry["formatting"]) == (True, "sharegpt")
    assert (tmp_path / "out" / entry["file_name"]).is_file()


def test_prompts_come_with_tags_and_the_best_response_as_reference(run: Run, tmp_path: Path):
    found = rows(run, tmp_path, what="prompts")
    assert [row["prompt"] for row in found] == [messages for messages, _ in CONVERSATIONS]
    assert {(row["reference"], *row["tags"]) for row in found} == {("good blue", "colour")}


@pytest.mark.parametrize("to", FORMATS)
def test_datasets_reads_every_export(to: str, run: Run, tmp_path: Path):
    what = "demonstrations" if "demonstrations" in FORMATS[to].shapes else "pairs"
    found = export(run, tmp_path / "out", to=to, what=what)
    assert load(tmp_path / "out", tmp_path) == found.records > 0


def test_datasets_takes_no_export_for_another_of_the_same_name(run: Run, tmp_path: Path):
    first, second = tmp_path / "p1" / "pairs", tmp_path / "p2" / "pairs"
    export(run, first)
    export(run, second, min_margin=0.5)
    assert [load(first, tmp_path), load(second, tmp_path)] == [3, 2]
    export(run, first, min_margin=0.7, force=True)
    assert [load(first, tmp_path), load(second, tmp_path)] == [1, 2]
    export(run, first, force=True)
    assert load(first, tmp_path) == 3


def test_datasets_of_another_process_takes_no_export_for_another(run: Run, tmp_path: Path):
    first, second = tmp_path / "p1" / "pairs", tmp_path / "p2" / "pairs"
    export(run, first)
    export(run, second, min_margin=0.5)
    assert [load_elsewhere(first, tmp_path), load_elsewhere(second, tmp_path)] == [3, 2]
    export(run, first, min_margin=0.7, force=True)
    assert load_elsewhere(first, tmp_path) == load(first, tmp_path) == 1


def test_datasets_tells_exports_apart_whose_path_and_time_are_equal(run: Run, tmp_path: Path):
    for margin, records in ((0.0, 3), (0.5, 2)):
        export(run, tmp_path / "out", min_margin=margin, force=True)
        os.utime(tmp_path / "out" / DATA_FILE, (1e9, 1e9))
        assert load(tmp_path / "out", tmp_path) == records


def test_datasets_sees_data_that_a_user_has_changed(run: Run, tmp_path: Path):
    export(run, tmp_path / "out")
    assert load(tmp_path / "out", tmp_path) == 3
    path = tmp_path / "out" / DATA_FILE
    pq.write_table(pq.read_table(path).slice(0, 1), path)
    assert load(tmp_path / "out", tmp_path) == 1


def load(out: Path, cache: Path) -> int:
    import datasets

    found = datasets.load_dataset(str(out), split="train", cache_dir=str(cache / "cache"))
    return int(found.num_rows)


def load_elsewhere(out: Path, cache: Path) -> int:
    script = (
        "import sys; from datasets import load_dataset; "
        "print(load_dataset(sys.argv[1], split='train', cache_dir=sys.argv[2]).num_rows)"
    )
    command = [sys.executable, "-c", script, str(out), str(cache / "cache")]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


def test_the_command_says_what_became_of_the_labels(run: Run, tmp_path: Path):
    found = rlaif("export", run.path, "--out", "out", "--to", "openrlhf", cwd=tmp_path)
    assert found.returncode == 0
    assert "label_smoothing = mean(1 - p) = 0.2500" in found.stderr
    wrong = rlaif("export", run.path, "--out", "out2", "--to", "verl", cwd=tmp_path)
    assert (wrong.returncode, "verl has no DPO" in wrong.stderr) == (2, True)


def _card(run: Run, out: Path, **options: Any) -> str:
    export(run, out, **options)
    return (out / "README.md").read_text()


def with_tools(folder: Path) -> Run:
    with RunWriter(folder / "run", make_manifest()) as writer:
        writer.add_row(make_row(0, [{"role": "user", "content": "say the sky"}], 0.9))
        row = make_row(1, ASKED, 0.8)
        writer.add_row(replace(row, prompt=Prompt.build(ASKED, id="p1", tools=[WEATHER])))
    return open_run(folder / "run")


@pytest.mark.parametrize(
    ("to", "what", "column"),
    [
        ("trl", "pairs", "prompt"),
        ("trl", "prompts", "prompt"),
        ("trl", "judgments", "prompt"),
        ("messages", "demonstrations", "messages"),
        ("axolotl", "pairs", "messages"),
        ("axolotl", "demonstrations", "messages"),
    ],
)
def test_formats_that_hold_tools_get_the_conversation_whole(
    tmp_path: Path, to: str, what: str, column: str
):
    found = rows(with_tools(tmp_path), tmp_path, to=to, what=what)
    plain, called = (row[column] for row in found)
    assert (plain[0]["content"], plain[0]["tool_calls"]) == ("say the sky", None)
    assert called[1]["tool_calls"] == [CALL]
    assert called[2]["tool_call_id"] == "c7"
    defined = [row["tools"] for row in found]
    assert defined[0] is None
    assert json.loads(defined[1]) == [WEATHER]


@pytest.mark.parametrize(
    ("to", "what"),
    [("openrlhf", "pairs"), ("llama-factory", "pairs"), ("verl", "demonstrations")],
)
def test_formats_that_hold_no_tools_leave_the_conversation_out_and_say_why(
    tmp_path: Path, to: str, what: str
):
    found = export(with_tools(tmp_path), tmp_path / "out", to=to, what=what)
    assert (found.records, found.unsayable) == (1, 1)
    assert (
        "1 records were left out: they call or define tools"
        in (tmp_path / "out" / "README.md").read_text()
    )


def test_the_card_gives_the_label_mass_with_a_notice_and_how_labels_were_sampled(tmp_path: Path):
    sampled = {"samples": 8, "temperature": 0.7, "words": True}
    judges = [{"name": "main", "pairwise": {"samples": 1}}, {"name": "other", "pairwise": sampled}]
    manifest = make_manifest().model_copy(update={"config": {"judges": judges}})
    row = made_row(1)
    verdicts = [make_verdict(mass=mass) for mass in (0.1, 0.2, 0.9)]
    with RunWriter(tmp_path / "run", manifest) as writer:
        writer.add_row(replace(row, judgments=(make_judgment(row.responses, 0.75, *verdicts),)))
    card = _card(open_run(tmp_path / "run"), tmp_path / "out", to="trl", what="judgments")
    assert "- label mass of main: 0.200 (median)" in card
    assert "- **notice:** main: low label mass, 0.200 (median)" in card
    assert "judge other: shares of 8 verdicts per order, sampled at temperature 0.7" in card
    assert "judge main: shares" not in card
