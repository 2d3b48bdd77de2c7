"""What a row is exploded into, worked out by hand."""

from dataclasses import replace

import pyarrow as pa
import pytest

from rlaif.errors import InputError
from rlaif.records import Failure, Prompt, Response, Revision, Row
from rlaif.runs import RunWriter, open_run, tables
from tests.runs.made import make_judgment, make_manifest, make_row

PROMPT = Prompt.build("question", id="p1", tags=["asked"])


def write(folder, *rows: Row):
    with RunWriter(folder, make_manifest()) as writer:
        for row in rows:
            writer.add_row(row)
    return open_run(folder)


def make_sample(index: int, origin: str = "sample", text: str | None = None) -> Response:
    return Response.build("p1", text or f"{origin} {index}", index=index, origin=origin)


def make_parts(*responses: Response, **parts) -> Row:
    return replace(make_row(1), prompt=PROMPT, responses=responses, pairs=(), **parts)


def demonstrated(run) -> list[tuple[str, float | None]]:
    return [
        (record["completion"][0]["content"], record["preference"])
        for record in tables.demonstration_records(run)
    ]


def test_a_pair_has_the_columns_of_the_contract(tmp_path):
    run = write(tmp_path, make_row(1))
    (record,) = tables.pair_records(run)
    assert record == {
        "prompt": [{"role": "user", "content": "question 1"}],
        "chosen": [{"role": "assistant", "content": "reply 0"}],
        "rejected": [{"role": "assistant", "content": "reply 1"}],
        "chosen_prob": 0.75,
        "margin": 0.5,
        "prompt_id": "p1",
        "chosen_id": make_row(1).responses[0].id,
        "rejected_id": make_row(1).responses[1].id,
        "principles": ["brief"],
        "judges": ["main"],
        "agreement": 1.0,
        "abstained": 0,
        "constitution": "hhh@0123456789ab",
        "run": make_manifest().label,
    }


def test_every_table_fits_its_schema(tmp_path):
    draft, revision = make_sample(0), make_sample(0, "revision-1")
    revised = make_parts(
        draft,
        revision,
        revisions=(Revision(draft.id, revision.id, "brief", 1),),
        judgments=(make_judgment((revision, draft), None), make_judgment((revision, draft), 0.9)),
    )
    run = write(tmp_path, make_row(2), revised)
    for name, table in tables.TABLES.items():
        records = list(table.records(run))
        assert records, name
        for record in records:
            assert list(record) == table.schema.names
        assert pa.Table.from_pylist(records, schema=table.schema).to_pylist() == records


def test_a_judgment_keeps_its_verdicts_and_its_ignorance(tmp_path):
    responses = make_row(1).responses
    row = replace(make_row(1), judgments=(make_judgment(responses, None),))
    (record,) = tables.judgment_records(write(tmp_path, row))
    assert record["preference"] is None
    assert record["margin"] is None
    assert record["verdicts"][0]["choice"] == "a"
    assert record["first"] == [{"role": "assistant", "content": "reply 0"}]


def test_the_most_preferred_sample_is_demonstrated(tmp_path):
    a, b, c = (make_sample(index) for index in range(3))
    # Means: a (0.2 + 0.6) / 2 = 0.4, b (0.8 + 0.7) / 2 = 0.75, c (0.4 + 0.3) / 2 = 0.35.
    judgments = (make_judgment((a, b), 0.2), make_judgment((a, c), 0.6), make_judgment((c, b), 0.3))
    run = write(tmp_path, make_parts(a, b, c, judgments=judgments))
    ((text, preference),) = demonstrated(run)
    assert text == "sample 1"
    assert preference == pytest.approx(0.75)


def test_of_equals_the_first_is_demonstrated(tmp_path):
    a, b = make_sample(0), make_sample(1)
    run = write(tmp_path, make_parts(a, b, judgments=(make_judgment((a, b), 0.5),)))
    assert demonstrated(run) == [("sample 0", 0.5)]


def test_without_judgments_none_of_several_samples_is_demonstrated(tmp_path):
    a, b = make_sample(0), make_sample(1)
    run = write(tmp_path, make_parts(a, b, judgments=(make_judgment((a, b), None),)))
    assert demonstrated(run) == []


def test_an_only_sample_is_demonstrated_as_it_is(tmp_path):
    assert demonstrated(write(tmp_path, make_parts(make_sample(0), judgments=()))) == [
        ("sample 0", None)
    ]


def test_the_revision_of_the_last_round_is_demonstrated(tmp_path):
    draft, first, last = make_sample(0), make_sample(0, "revision-1"), make_sample(0, "revision-2")
    revisions = (
        Revision(draft.id, first.id, "brief", 1),
        Revision(first.id, last.id, "honest", 2),
    )
    row = make_parts(draft, first, last, revisions=revisions, judgments=())
    run = write(tmp_path, row)
    assert demonstrated(run) == [("revision-2 0", None)]
    (record,) = tables.revision_records(run)
    assert record["draft"] == [{"role": "assistant", "content": "sample 0"}]
    assert record["revision"] == [{"role": "assistant", "content": "revision-2 0"}]
    assert (record["rounds"], record["principles"]) == (2, ["brief", "honest"])
    assert (record["changed"], record["preference"]) == (True, None)


def test_a_draft_whose_revision_failed_is_not_a_demonstration(tmp_path):
    failed = (Failure("revise", "p1", "timeout", "no answer"),)
    row = make_parts(make_sample(0), judgments=(), failures=failed)
    assert demonstrated(write(tmp_path, row)) == []


def test_a_response_made_to_be_bad_is_never_demonstrated(tmp_path):
    good, bad = make_sample(0, "contrast-for"), make_sample(0, "contrast-against")
    run = write(tmp_path, make_parts(bad, good, judgments=(make_judgment((bad, good), 0.9),)))
    assert [text for text, _ in demonstrated(run)] == ["contrast-for 0"]


def test_a_revision_that_was_compared_says_how_much_better_it_is(tmp_path):
    draft, revision = make_sample(0), make_sample(0, "revision-1")
    row = make_parts(
        draft,
        revision,
        revisions=(Revision(draft.id, revision.id, "brief", 1),),
        judgments=(make_judgment((draft, revision), 0.25),),
    )
    (record,) = tables.revision_records(write(tmp_path, row))
    assert record["preference"] == 0.75


def test_a_revision_that_changed_nothing_says_so(tmp_path):
    draft, revision = make_sample(0, text="same"), make_sample(0, "revision-1", text="same")
    row = make_parts(
        draft, revision, revisions=(Revision(draft.id, revision.id, "x", 1),), judgments=()
    )
    (record,) = tables.revision_records(write(tmp_path, row))
    assert not record["changed"]


def test_a_dataset_has_the_same_records(tmp_path):
    pytest.importorskip("datasets")
    run = write(tmp_path, *(make_row(number) for number in range(2500)))
    dataset = run.to_dataset("pairs")
    assert dataset.to_list() == list(tables.pair_records(run))
    assert dataset.cache_files
    assert len(run.to_dataset("revisions")) == 0
    assert run.to_dataset("revisions").column_names == tables.TABLES["revisions"].schema.names


def test_an_unknown_table_names_the_nearest(tmp_path):
    with pytest.raises(InputError, match="did you mean 'pairs'"):
        write(tmp_path, make_row(1)).to_dataset("pair")


def two_rounds(folder, *judged: tuple[int, float]):
    """A draft with two revisions; ``judged`` holds rounds and their preference over the draft."""
    texts = make_sample(0), make_sample(0, "revision-1"), make_sample(0, "revision-2")
    draft, first, last = texts
    row = make_parts(
        *texts,
        revisions=(
            Revision(draft.id, first.id, "brief", 1),
            Revision(first.id, last.id, "kind", 2),
        ),
        judgments=tuple(make_judgment((texts[n], draft), p) for n, p in judged),
    )
    return write(folder, row)


def revised_texts(run, revisions) -> list[tuple[str, int]]:
    records = tables.revision_records(run, revisions)
    return [(record["revision"][0]["content"], record["rounds"]) for record in records]


def demonstrated_texts(run, revisions) -> list[str]:
    records = tables.demonstration_records(run, revisions)
    return [record["completion"][0]["content"] for record in records]


def test_all_steps_of_a_revision_can_be_exported(tmp_path):
    run = two_rounds(tmp_path)
    assert revised_texts(run, "all") == [("revision-1 0", 1), ("revision-2 0", 2)]
    assert demonstrated_texts(run, "all") == ["revision-1 0", "revision-2 0"]
    assert demonstrated_texts(run, "last") == ["revision-2 0"]


def test_the_best_revision_is_the_one_the_judges_preferred_most(tmp_path):
    run = two_rounds(tmp_path, (1, 0.9), (2, 0.6))
    assert revised_texts(run, "best") == [("revision-1 0", 1)]
    assert demonstrated_texts(run, "best") == ["revision-1 0"]
    assert revised_texts(run, "last") == [("revision-2 0", 2)]
    assert demonstrated_texts(run, "last") == ["revision-2 0"]


def test_without_judgments_the_best_revision_is_the_last(tmp_path):
    run = two_rounds(tmp_path)
    assert revised_texts(run, "best") == [("revision-2 0", 2)]
    assert demonstrated_texts(run, "best") == ["revision-2 0"]


def test_prompts_without_revisions_are_demonstrated_alike(tmp_path):
    run = write(tmp_path, make_parts(make_sample(0), judgments=()))
    for steps in tables.STEPS:
        assert demonstrated_texts(run, steps) == ["sample 0"]
