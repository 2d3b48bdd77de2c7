"""Our soft losses against TRL's own trainer, and against brute force from plain logits."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset

from rlaif.config.train import DpoConfig, LoraSettings
from rlaif.training.data.read import load_preferences
from rlaif.training.data.tokens import tokenise_pairs
from rlaif.training.dpo.train import pair_loss_of
from rlaif.training.dpo.trainer import PreferenceTrainer, choose_layout
from rlaif.training.harness.recipe import quiet_libraries
from rlaif.training.models import load_policy
from tests.training.tiny import colour_pairs, make_tiny

# TRL 1.16 asks for `is_gradient_checkpointing`, which transformers 5.23 has renamed
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

MIXED = [1.0, 0.7, 0.9, 0.55]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return SimpleNamespace(
        policy=str(make_tiny(folder / "policy")), reference=str(make_tiny(folder / "ref", seed=1))
    )


def trl_arguments(tmp_path: Path, **changes: Any) -> Any:
    from trl.trainer.dpo_config import DPOConfig

    settings: dict[str, Any] = {
        "output_dir": str(tmp_path / "trl"),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "disable_tqdm": True,
        "per_device_train_batch_size": 4,
        "max_length": None,
        "beta": 0.5,
    }
    return DPOConfig(**settings | changes)


def trl_trainer(tmp_path: Path, models: Any, dataset: Dataset, **changes: Any) -> Any:
    from trl.trainer.dpo_trainer import DPOTrainer

    policy, tokenizer = load_policy(models.policy)
    reference, _ = load_policy(models.reference, frozen=True)
    with quiet_libraries():
        return DPOTrainer(
            model=policy,
            ref_model=reference,
            args=trl_arguments(tmp_path, **changes),
            train_dataset=dataset,
            processing_class=tokenizer,
        )


def our_trainer(
    tmp_path: Path,
    models: Any,
    dataset: Dataset,
    *,
    lora: LoraSettings | None = None,
    layout: str | None = None,
    trl: dict[str, Any] | None = None,
    **settings: Any,
) -> Any:
    config = DpoConfig(model=models.policy, out=tmp_path / "out", **{"beta": 0.5} | settings)
    policy, tokenizer = load_policy(models.policy, lora=lora)
    reference = None if lora else load_policy(models.reference, frozen=True)[0]
    pair_loss = pair_loss_of(config)
    chosen = choose_layout(policy, own_loss=pair_loss is not None and layout != "trl")
    if layout == "apart" and chosen == "shared":
        chosen = "apart"
    assert layout in (None, chosen)
    if reference is not None and chosen != "trl":
        choose_layout(reference, own_loss=True)
    tokens = tokenise_pairs(load_preferences(dataset), tokenizer, max_length=128)
    with quiet_libraries():
        return PreferenceTrainer(
            pair_loss=pair_loss,
            layout=chosen,
            normalised=config.length_normalised or config.loss == "ipo",
            nll=config.nll,
            model=policy,
            ref_model=reference,
            args=trl_arguments(tmp_path, **trl or {}),
            train_dataset=tokens.dataset,
            processing_class=tokenizer,
        )


def loss_of(trainer: Any, rows: int = 4) -> torch.Tensor:
    batch = trainer.data_collator([dict(trainer.train_dataset[i]) for i in range(rows)])
    loss: torch.Tensor = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))
    return loss


def swapped(dataset: Dataset) -> Dataset:
    return Dataset.from_list(
        [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in dataset]
    )


def raw(trainer: Any, labels: list[float]) -> Any:
    """Replace labels of tokenised rows, so that labels below ½ can be tried too."""
    dataset = trainer.train_dataset.remove_columns("chosen_prob")
    trainer.train_dataset = dataset.add_column("chosen_prob", labels)
    return trainer


@pytest.mark.parametrize("layout", ["shared", "apart", "trl"])
def test_a_certain_label_gives_trls_loss(tmp_path, models, layout):
    data = colour_pairs(4)
    expected = loss_of(trl_trainer(tmp_path, models, data)).item()
    own = our_trainer(tmp_path, models, data, layout=layout)
    assert loss_of(own).item() == pytest.approx(expected, abs=2e-6)
    assert expected != pytest.approx(0.6931, abs=1e-3)


def test_the_wrong_label_gives_trls_loss_with_the_sides_swapped(tmp_path, models):
    expected = loss_of(trl_trainer(tmp_path, models, swapped(colour_pairs(4)))).item()
    own = raw(our_trainer(tmp_path, models, colour_pairs(4)), [0.0] * 4)
    assert loss_of(own).item() == pytest.approx(expected, abs=2e-6)


def test_opposite_labels_of_swapped_sides_agree(tmp_path, models):
    one = raw(our_trainer(tmp_path, models, colour_pairs(4)), [0.7] * 4)
    other = raw(our_trainer(tmp_path, models, swapped(colour_pairs(4))), [0.3] * 4)
    assert loss_of(one).item() == pytest.approx(loss_of(other).item(), abs=2e-6)


@pytest.mark.parametrize("loss", ["ipo", "robust"])
def test_a_certain_label_gives_trls_other_losses(tmp_path, models, loss):
    noise: dict[str, Any] = {"noise": 0.1} if loss == "robust" else {}
    changes = {"loss_type": [loss], "label_smoothing": 0.1 if loss == "robust" else 0.0}
    expected = loss_of(trl_trainer(tmp_path, models, colour_pairs(4), **changes)).item()
    own = our_trainer(tmp_path, models, colour_pairs(4), loss=loss, **noise)
    assert loss_of(own).item() == pytest.approx(expected, rel=1e-5)


def test_the_length_normalised_loss_is_trls_sigmoid_norm(tmp_path, models):
    changes = {"loss_type": ["sigmoid_norm"]}
    expected = loss_of(trl_trainer(tmp_path, models, colour_pairs(4), **changes)).item()
    own = our_trainer(tmp_path, models, colour_pairs(4), length_normalised=True)
    assert loss_of(own).item() == pytest.approx(expected, abs=2e-6)


def test_the_nll_term_is_trls_sft_loss(tmp_path, models):
    changes = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}
    expected = loss_of(trl_trainer(tmp_path, models, colour_pairs(4), **changes)).item()
    own = our_trainer(tmp_path, models, colour_pairs(4), nll=0.2)
    assert loss_of(own).item() == pytest.approx(expected, abs=2e-6)


def test_trls_own_losses_pass_through_and_ignore_the_label(tmp_path, models):
    changes = {"loss_type": ["apo_zero"]}
    expected = loss_of(trl_trainer(tmp_path, models, colour_pairs(4), **changes)).item()
    own = our_trainer(tmp_path, models, colour_pairs(4, p=0.6), loss="apo_zero", trl=changes)
    assert loss_of(own).item() == pytest.approx(expected, abs=2e-6)


def brute_force(trainer: Any, labels: list[float], beta: float = 0.5) -> torch.Tensor:
    """−Σ p log σ(βh) + (1−p) log σ(−βh) from full logits, one sequence at a time."""
    total = torch.zeros(())
    for row, p in zip(trainer.train_dataset, labels, strict=True):
        h = torch.zeros(())
        for sign, name in ((1, "chosen_ids"), (-1, "rejected_ids")):
            ids = torch.tensor([row["prompt_ids"] + row[name]])
            start = len(row["prompt_ids"])
            for side, model in ((1, trainer.model), (-1, trainer.ref_model)):
                logprobs = model(input_ids=ids, use_cache=False).logits.log_softmax(-1)
                picked = logprobs[0, start - 1 : -1].gather(1, ids[0, start:, None]).sum()
                h = h + sign * side * picked
        x = beta * h
        total = total - p * torch.sigmoid(x).log() - (1 - p) * torch.sigmoid(-x).log()
    return total / len(labels)


@pytest.mark.parametrize("layout", [None, "trl"])
def test_mixed_labels_give_the_loss_and_gradient_of_brute_force(tmp_path, models, layout):
    own = our_trainer(tmp_path, models, colour_pairs(4, p=MIXED), layout=layout)
    loss = loss_of(own)
    loss.backward()  # type: ignore[no-untyped-call]
    found = [parameter.grad.clone() for parameter in own.model.parameters()]
    own.model.zero_grad()
    expected = brute_force(own, MIXED)
    expected.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for mine, parameter in zip(found, own.model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-3, atol=1e-6)


def test_precomputed_reference_equals_a_second_model(tmp_path, models):
    data = colour_pairs(6, p=0.8)
    live = loss_of(our_trainer(tmp_path, models, data)).item()
    kept = our_trainer(tmp_path, models, data, trl={"precompute_ref_log_probs": True})
    assert "ref_chosen_logps" in kept.train_dataset.column_names
    assert loss_of(kept).item() == pytest.approx(live, abs=1e-5)


def test_an_adapter_turned_off_is_the_reference(tmp_path, models):
    own = our_trainer(tmp_path, models, colour_pairs(4, p=0.8), lora=LoraSettings(r=4))
    assert own.ref_model is None
    # new adapters change nothing yet: h = 0, and soft DPO is ln 2 whatever the label
    assert loss_of(own).item() == pytest.approx(0.6931472, abs=1e-6)
    with torch.no_grad():
        for name, parameter in own.model.named_parameters():
            assert ".ref." not in name
            if "lora_B" in name:
                parameter.add_(0.1)
    assert loss_of(own).item() != pytest.approx(0.6931472, abs=1e-3)


@pytest.mark.parametrize(
    "change",
    [{"ld_alpha": 0.5}, {"f_divergence_type": "js_divergence"}, {"use_weighting": True}],
)
def test_combinations_that_break_the_symmetry_are_refused(tmp_path, models, change):
    from rlaif.errors import InputError

    with pytest.raises(InputError, match="soft labels cannot be combined"):
        our_trainer(tmp_path, models, colour_pairs(4), trl=change)


def test_tokens_are_those_of_trl(tmp_path, models):
    data = colour_pairs(5)
    theirs = trl_trainer(tmp_path, models, data).train_dataset
    ours = our_trainer(tmp_path, models, data).train_dataset
    for name in ("prompt_ids", "chosen_ids", "rejected_ids"):
        assert list(ours[name]) == list(theirs[name])


def test_trls_trainer_takes_a_step_on_our_columns_unchanged(tmp_path, models):
    data = colour_pairs(4, p=0.9, margin=[0.8] * 4, constitution=["hhh@1"] * 4)
    trainer = trl_trainer(tmp_path, models, data, max_steps=1, logging_steps=1)
    before = trainer.model.get_input_embeddings().weight.clone()
    with quiet_libraries():
        trainer.train()
    assert trainer.state.global_step == 1
    assert not torch.equal(before, trainer.model.get_input_embeddings().weight)
    assert Path(models.policy).exists()
