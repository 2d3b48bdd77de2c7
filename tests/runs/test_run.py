from dataclasses import replace

import pytest

from rlaif.errors import InputError, RunError
from rlaif.records import Choice, Drop, Failure
from rlaif.runs import RunWriter, open_run
from rlaif.runs.shards import shard_paths
from tests.runs.made import make_entry, make_judgment, make_manifest, make_row, make_verdict


def test_a_pair_reads_as_prompt_and_two_responses(tmp_path):
    with RunWriter(tmp_path, make_manifest()) as writer:
        writer.add_row(make_row(1))
    (pair,) = open_run(tmp_path).pairs()
    assert (pair.prompt.text, pair.chosen.text, pair.rejected.text) == (
        "question 1",
        "reply 0",
        "reply 1",
    )
    assert (pair.chosen_prob, pair.margin, pair.principles) == (0.75, 0.5, ("brief",))
    assert (pair.prompt_id, pair.chosen_id) == ("p1", make_row(1).responses[0].id)


def test_responses_and_judgments_are_streamed_from_all_rows(tmp_path):
    with RunWriter(tmp_path, make_manifest(), rows_per_shard=2) as writer:
        for number in range(5):
            writer.add_row(make_row(number))
    run = open_run(tmp_path)
    assert len(list(run.responses())) == 10
    views = list(run.judgments())
    assert len(views) == 5
    for view in views:
        assert view.judgment.first_id == view.first.id
        assert view.first.prompt_id == view.prompt.id


def test_status_counts_everything(tmp_path):
    row = make_row(1)
    abstained = make_verdict(Choice.ABSTAIN, reason="unreadable")
    judgments = (
        make_judgment(row.responses, None, abstained),
        make_judgment(row.responses, 0.5, make_verdict(Choice.TIE), make_verdict(Choice.B)),
    )
    row = replace(
        row,
        judgments=judgments,
        pairs=(),
        drops=(Drop("pair", "tie"), Drop("pair", "tie"), Drop("response", "identical")),
        failures=(Failure("judge", "p1", "http-500", "no"),),
    )
    with RunWriter(tmp_path, make_manifest()) as writer:
        writer.log("started")
        writer.add_row(row)
        writer.add_row(make_row(2))
        writer.add_failure(Failure("sample", "p2", "timeout", "no"))
        writer.add_failure(Failure("sample", "p3", "timeout", "no"))
        writer.ledger.put(make_entry(1, price=0.5))
        writer.log("input", prompts=3)
        writer.flush()
        assert open_run(tmp_path).status().state == "running"
        writer.log("finished")
    status = open_run(tmp_path).status(verify=True)
    assert (status.rows, status.failed, status.expected, status.state) == (2, 1, 3, "finished")
    assert (status.responses, status.pairs, status.judgments, status.undecided) == (4, 1, 3, 1)
    assert status.choices == {"abstain": 1, "tie": 1, "b": 1, "a": 1}
    assert (status.verdicts, status.abstained, status.abstentions) == (4, 1, {"unreadable": 1})
    assert status.drops == {("pair", "tie"): 2, ("response", "identical"): 1}
    assert (status.failures, status.call_failures) == ({"timeout": 1}, {"http-500": 1})
    assert (status.calls[0].calls, status.price) == (1, 0.5)
    assert status.damaged == {}
    as_json = status.to_json()
    assert as_json["drops"][0] == {"what": "pair", "reason": "tie", "count": 2}
    assert as_json["calls"][0]["purpose"] == "judge"
    assert as_json["choices"]["tie"] == 1
    assert as_json["path"] == str(tmp_path)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        (["started"], "interrupted"),
        (["started", "finished"], "finished"),
        (["started", "finished", "started"], "interrupted"),
        (["started", "interrupted"], "interrupted"),
        ([], "interrupted"),
    ],
)
def test_the_last_start_decides_whether_a_run_is_finished(tmp_path, events, state):
    with RunWriter(tmp_path, make_manifest()) as writer:
        for event in events:
            writer.log(event)
    assert open_run(tmp_path).status().state == state


def test_verdicts_on_canaries_count_where_their_failures_do(tmp_path):
    row = make_row(1)
    known = make_judgment(row.responses, 0.75, make_verdict(), make_verdict(Choice.ABSTAIN))
    failed = Failure("judge", known.id, "http-500", "main/brief: no")
    with RunWriter(tmp_path, make_manifest()) as writer:
        writer.add_row(replace(row, canaries=(known, known), failures=(failed,)))
    # One verdict on the responses, two on canaries, one that failed.
    status = open_run(tmp_path).status()
    assert status.failed_shares == {"judge:main": 0.25}
    assert status.verdicts == 1


def test_a_run_that_lacks_rows_is_not_finished(tmp_path):
    with RunWriter(tmp_path, make_manifest()) as writer:
        writer.log("input", prompts=2)
        writer.log("finished")
        writer.add_row(make_row(1))
    assert open_run(tmp_path).status().state == "interrupted"


def test_status_names_damaged_files_and_counts_the_rest(tmp_path):
    with RunWriter(tmp_path, make_manifest()) as writer:
        for number in range(2):
            writer.add_row(make_row(number))
            writer.flush()
        writer.ledger.put(make_entry(1))
        writer.log("finished")
    broken = shard_paths(tmp_path / "shards")[0]
    broken.write_bytes(broken.read_bytes()[:-20])
    (tmp_path / "ledger.sqlite").write_bytes(b"SQLite format 3\0" + b"\xa5" * 8000)
    (tmp_path / "failures.jsonl").write_bytes(b"nonsense\n")
    status = open_run(tmp_path).status()
    assert status.rows == 1
    assert status.state == "interrupted"
    assert {path.rpartition("/")[2] for path in status.damaged} == {
        broken.name,
        "ledger.sqlite",
        "failures.jsonl",
    }
    for said in status.damaged.values():
        assert "hint: " in said


def test_a_path_that_is_not_a_run_is_an_error_with_runs_nearby(tmp_path):
    RunWriter(tmp_path / "demo", make_manifest()).close()
    with pytest.raises(InputError, match="not a run directory") as caught:
        open_run(tmp_path)
    assert str(tmp_path / "demo") in caught.value.hint
    with pytest.raises(InputError, match="run not found") as caught:
        open_run(tmp_path / "dmeo")
    assert str(tmp_path / "demo") in caught.value.hint
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="run not found"):
        open_run(str(tmp_path / "file"))


def test_reading_the_ledger_of_a_run_without_one_is_an_error(tmp_path):
    RunWriter(tmp_path, make_manifest()).close()
    (tmp_path / "ledger.sqlite").unlink()
    run = open_run(tmp_path)
    assert run.status().calls == ()
    with pytest.raises(RunError, match="ledger not found"):
        run.ledger()


def test_a_run_with_reply_shards_may_have_no_ledger_file(tmp_path):
    RunWriter(tmp_path, make_manifest()).close()
    (tmp_path / "ledger.sqlite").unlink()
    (tmp_path / "replies").mkdir()
    with open_run(tmp_path).ledger() as ledger:
        assert list(ledger.entries()) == []
    assert open_run(tmp_path).status().damaged == {}


def test_status_says_how_much_of_the_prompts_a_prefix_cache_served(tmp_path):
    with RunWriter(tmp_path, make_manifest()) as writer:
        for number, cached in enumerate((0, 80), start=1):
            entry = make_entry(number, purpose="judge", engine="main", prompt_tokens=100)
            writer.ledger.put(replace(entry, cached_tokens=cached))
        writer.ledger.put(make_entry(3, purpose="sample", engine="silent", prompt_tokens=900))
    status = open_run(tmp_path).status()
    assert status.cached_share == 0.4
    assert status.cache_words == "40% of prompt tokens (judge by main 40%)"
    assert status.to_json()["cached_share"] == 0.4


def test_a_cache_that_no_server_reports_is_not_mentioned(tmp_path):
    with RunWriter(tmp_path, make_manifest()) as writer:
        writer.ledger.put(make_entry(1, prompt_tokens=100))
    status = open_run(tmp_path).status()
    assert status.cached_share is None
    assert status.cache_words == ""


def test_status_gives_the_median_label_mass_of_each_judge_and_a_line_where_it_is_low(tmp_path):
    masses: dict[str, list[float | None]] = {
        "low": [0.1, 0.1, 0.00001, 0.9],
        "fine": [0.7, 0.8, 0.9],
        "words": [None],
    }
    with RunWriter(tmp_path, make_manifest(), rows_per_shard=1) as writer:
        for number in range(2):  # in two shards, each with half of them
            verdicts = [
                make_verdict(judge=judge, mass=mass)
                for judge, some in masses.items()
                for mass in some[number::2]
            ]
            row = make_row(number)
            responses = row.responses[:2]
            writer.add_row(replace(row, judgments=(make_judgment(responses, 0.75, *verdicts),)))
    status = open_run(tmp_path).status()
    assert status.label_mass == {"low": 0.1, "fine": 0.8}
    (line,) = status.low_masses
    assert line.startswith("low: low label mass, 0.100 (median)")
