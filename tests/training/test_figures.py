import re

import pytest

from rlaif.training.harness.figures import main_figures, meaning_of, summarise
from rlaif.training.harness.metrics import read_metrics
from tests.training.tiny import colour_pairs

from rlaif.training import train_dpo  # isort: skip


def test_a_summary_says_what_held_out_pairs_show_and_what_chance_is():
    held_out = {"rewards/agreement": 0.7, "labels/chosen_prob": 0.8}
    text = summarise("dpo", {}, {"rewards/agreement": 0.9, "held_out": held_out})
    assert text == (
        "The policy sides with 70% of the labels (at best 80%; 50% is chance), "
        "measured on held-out pairs."
    )


def test_a_summary_without_held_out_pairs_warns():
    text = summarise("dpo", {}, {"rewards/agreement": 0.9, "labels/chosen_prob": 1.0})
    assert "training pairs, which says little about new ones" in text


def test_a_reward_model_is_summarised_with_its_interval():
    accuracy = {"value": 0.71, "low": 0.6, "high": 0.8}
    text = summarise("reward", {}, {"held_out": {"accuracy": accuracy}})
    assert "agrees with 71% [60%, 80%] of the labels" in text


def test_a_policy_gradient_is_summarised_as_a_change_of_score_at_a_kl():
    first, last = {"score/mean": 0.5}, {"score/mean": 0.75, "objective/kl": 5.0}
    assert summarise("ppo", first, last).startswith(
        "The mean score went from 0.5 to 0.75 at a KL of 5 nats per response."
    )


def test_figures_stand_in_order_with_start_and_meaning():
    rows = main_figures("dpo", {"loss": 0.7}, {"loss": 0.6, "rewards/margins": 0.1})
    assert [(row.name, row.start, row.end) for row in rows] == [
        ("loss", "0.7", "0.6"),
        ("rewards/margins", "", "0.1"),
    ]
    assert all(row.meaning for row in rows)


def test_every_metric_of_a_dpo_training_has_a_meaning(tiny, tmp_path):
    train_dpo(
        dataset=colour_pairs(16),
        model=tiny,
        out=tmp_path / "out",
        batch_size=4,
        held_out=0.3,
        measure_every=2,
    )
    names = {name for row in read_metrics(tmp_path / "out") for name in row}
    of_the_library = re.compile(r"step|epoch|num_tokens|(held_out/)?(epoch|.*logits.*)")
    assert [n for n in sorted(names) if not meaning_of(n) and not of_the_library.fullmatch(n)] == []


@pytest.mark.parametrize("name", ["held_out.accuracy", "gold.hhh.accuracy", "held_out/accuracy"])
def test_a_metric_means_the_same_wherever_it_was_measured(name):
    assert meaning_of(name) == meaning_of("accuracy") != ""
