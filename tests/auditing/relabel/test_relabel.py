"""Another constitution over the same responses: what is asked, what flips, and who did it."""

from pathlib import Path

import pytest

from rlaif.auditing.principles.explain import OpinionWeights
from rlaif.auditing.relabel.relabel import compare_labels, relabel, reparse
from rlaif.constitution import load_constitution
from rlaif.errors import ConfigError, InputError
from rlaif.records import Choice
from rlaif.runs import Ledger, Run
from tests.auditing.runs import make_run, reworded, write_constitution

EDITED = "no-lecturing"


def verdicts_of(run: Run, principle: str) -> int:
    return sum(
        verdict.principle == principle
        for view in run.judgments()
        for verdict in view.judgment.verdicts
    )


@pytest.mark.slow
def test_editing_one_principle_of_many_asks_only_for_its_judgments(tmp_path: Path) -> None:
    run = make_run(tmp_path, prompts=1000)
    new = reworded("hhh", EDITED)
    many = len(new.principles)
    path = write_constitution(tmp_path / "new.yaml", new)
    done = relabel(run.path, constitution=str(path), out=tmp_path / "new")
    shown = verdicts_of(run, EDITED)
    judged = sum(1 for _ in run.judgments())
    assert judged == 1000
    assert 0.5 < shown / (2000 / many) < 2  # 1000 comparisons × 2 orders, one principle each
    assert done.rejudged.asked == shown
    assert done.rejudged.remembered == 2 * judged - shown
    assert done.rejudged.rows == 1000
    assert done.flips.compared == judged
    assert set(done.flips.causes) <= {EDITED}
    assert done.flips.flipped == done.flips.causes[EDITED] > 0
    assert done.unchanged_principles == many - 1


def test_a_relabelled_run_has_the_same_responses_and_says_whose(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    seen: list[tuple[str, int, int]] = []
    done = relabel(
        run.path,
        constitution="honest",
        out=tmp_path / "new",
        on_progress=lambda *counts: seen.append(counts),
    ).rejudged
    assert seen[-1] == ("rows judged anew", done.rows, done.rows)
    assert seen == sorted(seen)
    before = {row.prompt.id: [r.id for r in row.responses] for row in run.rows()}
    after = {row.prompt.id: [r.id for r in row.responses] for row in done.run.rows()}
    assert before == after
    assert done.run.manifest.constitution_label == load_constitution("honest").label
    assert run.manifest.label in done.run.manifest.notices[-1]
    assert done.run.manifest.fingerprint != run.manifest.fingerprint


def test_relabelling_with_all_principles_asks_twice_per_pair(tmp_path: Path) -> None:
    run = make_run(tmp_path, judging={"principles": {"choose": "all"}}, constitution="honest")
    first = load_constitution("honest").judged()[0].id
    path = write_constitution(tmp_path / "new.yaml", reworded("honest", first))
    done = relabel(run.path, constitution=str(path), out=tmp_path / "new")
    assert done.rejudged.asked == 2 * 20
    assert set(done.flips.causes) <= {first}


def test_relabelling_again_resumes_and_asks_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    path = str(write_constitution(tmp_path / "new.yaml", reworded("hhh", EDITED)))
    relabel(run.path, constitution=path, out=tmp_path / "new")
    again = relabel(run.path, constitution=path, out=tmp_path / "new").rejudged
    assert (again.asked, again.remembered, again.rows) == (0, 0, 20)


def test_the_same_constitution_flips_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    done = relabel(run.path, constitution="hhh", out=tmp_path / "new")
    assert done.rejudged.asked == 0
    assert done.flips.same == done.flips.compared == 20


def test_flips_carry_examples_with_both_probabilities(tmp_path: Path) -> None:
    run = make_run(tmp_path, prompts=60)
    done = relabel(run.path, constitution="honest", out=tmp_path / "new")
    some = [one for examples in done.flips.examples.values() for one in examples]
    assert some
    for one in some:
        assert one.before < 0.5 < one.after
        assert one.chosen != one.rejected
    old, new = (load_constitution(name) for name in ("hhh", "honest"))
    weights = [OpinionWeights.build(one, []) for one in (old, new)]
    assert compare_labels(run, done.rejudged.run, *weights).flipped == done.flips.flipped


def test_a_run_cannot_be_relabelled_into_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path, prompts=2)
    with pytest.raises(ConfigError, match="is the run itself"):
        relabel(run.path, constitution="honest", out=run.path)
    with pytest.raises(InputError, match="run not found"):
        relabel(tmp_path / "nothing", constitution="honest", out=tmp_path / "new")


def test_reparsing_gives_the_same_labels_without_an_engine(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    done = reparse(run.path, out=tmp_path / "new")
    assert done.asked == 0
    assert done.remembered == 40
    old = {v.judgment.first_id: v.judgment.preference for v in run.judgments()}
    new = {v.judgment.first_id: v.judgment.preference for v in done.run.judgments()}
    assert new == old


def test_a_reply_that_was_never_recorded_is_an_abstention_and_not_a_question(
    tmp_path: Path,
) -> None:
    judge = {"name": "main", "engine": "scripted", "model": "judge-random"}
    judge["options"] = {"failure_rate": 0.3}  # type: ignore[assignment]
    run = make_run(tmp_path, judges=[judge])
    failed = sum(
        verdict.choice is Choice.ABSTAIN
        for view in run.judgments()
        for verdict in view.judgment.verdicts
    )
    assert 0 < failed < 40
    done = reparse(run.path, out=tmp_path / "new")
    verdicts = [v for view in done.run.judgments() for v in view.judgment.verdicts]
    mute = [verdict for verdict in verdicts if verdict.choice is Choice.ABSTAIN]
    assert len(mute) == failed
    assert all(verdict.raw.startswith("not-recorded") for verdict in mute)
    with Ledger.open(tmp_path / "new" / "ledger.sqlite", read_only=True) as ledger:
        assert sum(total.calls for total in ledger.totals()) == 0


@pytest.mark.parametrize(
    ("judge", "field", "reaches"),
    [
        ({"method": "pairwise"}, "statement", ()),
        ({"method": "pairwise"}, "comparison", ("main",)),
        ({"method": "rubric"}, "statement", ("main",)),
        ({"method": "rubric"}, "comparison", ()),
        ({"pairwise": {"exemplars": 1}}, "examples", ("main",)),
        ({"method": "pairwise"}, "examples", ()),
    ],
)
def test_an_edit_reaches_the_judges_whose_prompts_show_it_and_flips_nothing_elsewhere(
    judge: dict[str, object], field: str, reaches: tuple[str, ...], tmp_path: Path
) -> None:
    base = {"name": "main", "engine": "scripted", "model": "judge-random"}
    run = make_run(tmp_path, prompts=8, judges=[{**base, **judge}])
    old = load_constitution("hhh")
    changed = old.principle(EDITED)
    new = changed.examples[::-1] if field == "examples" else "Which is better, in other words?"
    principles = tuple(
        one.model_copy(update={field: new}) if one.id == EDITED else one for one in old.principles
    )
    path = write_constitution(
        tmp_path / "new.yaml", old.model_copy(update={"principles": principles})
    )
    done = relabel(run.path, constitution=str(path), out=tmp_path / "new")
    assert [(one.principle, one.field, one.reaches) for one in done.edits] == [
        (EDITED, field, reaches)
    ]
    if not reaches:
        assert (done.rejudged.asked, done.flips.same) == (0, done.flips.compared)
