"""Our soft reward loss against TRL's own trainer, and against brute force."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from rlaif.training.data.pairs import Layout
from rlaif.training.data.read import load_preferences
from rlaif.training.data.tokens import tokenise_pairs
from rlaif.training.harness.recipe import quiet_libraries
from rlaif.training.models import load_scorer
from rlaif.training.reward.trainer import ScorerTrainer, choose_layout
from tests.training.tiny import colour_pairs

LABELS = [1.0, 0.7, 0.9, 0.55]


def arguments(tmp_path: Path, **changes: Any) -> Any:
    from trl.trainer.reward_config import RewardConfig

    settings: dict[str, Any] = {
        "output_dir": str(tmp_path),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "disable_tqdm": True,
        "max_length": None,
    }
    return RewardConfig(**settings | changes)


def load(tiny: Path) -> Any:
    torch.manual_seed(0)
    return load_scorer(str(tiny))


def trl_loss(tmp_path: Path, tiny: Path, dataset: Dataset, **changes: Any) -> float:
    from trl.trainer.reward_trainer import RewardTrainer

    scorer, tokenizer = load(tiny)
    with quiet_libraries():
        trainer: Any = RewardTrainer(
            model=scorer,
            args=arguments(tmp_path, **changes),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
    rows = [dict(row) for row in trainer.train_dataset]
    batch = trainer._prepare_inputs(trainer.data_collator(rows))
    loss: torch.Tensor = trainer.compute_loss(trainer.model, batch)
    return loss.item()


def our_trainer(
    tmp_path: Path, tiny: Path, dataset: Dataset, *, layout: Layout | None = None, **settings: Any
) -> Any:
    scorer, tokenizer = load(tiny)
    found = choose_layout(scorer)
    tokens = tokenise_pairs(load_preferences(dataset), tokenizer, max_length=128)
    with quiet_libraries():
        return ScorerTrainer(
            layout=layout or found,
            model=scorer,
            args=arguments(tmp_path),
            train_dataset=tokens.dataset,
            processing_class=tokenizer,
            **settings,
        )


def our_loss(trainer: Any, labels: list[float] | None = None) -> torch.Tensor:
    rows = [dict(row) for row in trainer.train_dataset]
    for row, label in zip(rows, labels or [], strict=bool(labels)):
        row["chosen_prob"] = label
    loss: torch.Tensor = trainer.compute_loss(
        trainer.model, trainer._prepare_inputs(trainer.data_collator(rows))
    )
    return loss


def swapped(dataset: Dataset) -> Dataset:
    return Dataset.from_list(
        [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in dataset]
    )


@pytest.mark.parametrize("layout", ["shared", "apart"])
def test_a_certain_label_gives_trls_loss(tmp_path, tiny, layout):
    expected = trl_loss(tmp_path, tiny, colour_pairs(4))
    own = our_trainer(tmp_path, tiny, colour_pairs(4), layout=layout)
    assert our_loss(own).item() == pytest.approx(expected, abs=1e-6)
    assert expected != pytest.approx(0.6931, abs=1e-4)


def test_a_llama_shares_prompts(tiny):
    assert choose_layout(load(tiny)[0]) == "shared"


def test_the_wrong_label_gives_trls_loss_with_the_sides_swapped(tmp_path, tiny):
    expected = trl_loss(tmp_path, tiny, swapped(colour_pairs(4)))
    own = our_trainer(tmp_path, tiny, colour_pairs(4))
    assert our_loss(own, [0.0] * 4).item() == pytest.approx(expected, abs=1e-6)


def test_margins_and_centring_are_those_of_trl(tmp_path, tiny):
    data = colour_pairs(4, margin=[0.1, 0.4, 0.8, 1.0])
    changes = {"center_rewards_coefficient": 0.01}
    expected = trl_loss(tmp_path, tiny, data, **changes)
    own = our_trainer(tmp_path, tiny, data, margin_scale=1.0, centring=0.01)
    assert our_loss(own).item() == pytest.approx(expected, abs=1e-6)


def test_the_margin_column_is_left_alone_unless_asked_for(tmp_path, tiny):
    data = colour_pairs(4, margin=[0.1, 0.4, 0.8, 1.0])
    expected = trl_loss(tmp_path, tiny, colour_pairs(4))
    assert our_loss(our_trainer(tmp_path, tiny, data)).item() == pytest.approx(expected, abs=1e-6)


def test_hard_labels_ignore_the_judges_doubt(tmp_path, tiny):
    expected = trl_loss(tmp_path, tiny, colour_pairs(4))
    own = our_trainer(tmp_path, tiny, colour_pairs(4, p=0.6), soft=False)
    assert our_loss(own).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("layout", ["shared", "apart"])
def test_mixed_labels_give_the_gradient_of_brute_force(tmp_path, tiny, layout):
    own = our_trainer(tmp_path, tiny, colour_pairs(4, p=LABELS), layout=layout)
    loss = our_loss(own)
    loss.backward()  # type: ignore[no-untyped-call]
    found = [parameter.grad.clone() for parameter in own.model.parameters()]
    own.model.zero_grad()
    expected = torch.zeros(())
    for row, p in zip(own.train_dataset, LABELS, strict=True):
        scores = [
            own.model(input_ids=torch.tensor([row["prompt_ids"] + row[name]])).logits[0, 0]
            for name in ("chosen_ids", "rejected_ids")
        ]
        d = scores[0] - scores[1]
        expected = expected - p * torch.sigmoid(d).log() - (1 - p) * torch.sigmoid(-d).log()
    expected = expected / 4
    expected.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    for mine, parameter in zip(found, own.model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-3, atol=1e-7)
