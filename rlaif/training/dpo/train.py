"""Train a policy on preference pairs: DPO with soft labels, its relatives, and TRL's own losses."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from trl.trainer.dpo_config import DPOConfig

from rlaif.config.train import DpoConfig
from rlaif.training.data.pairs import Layout
from rlaif.training.data.read import Source, read_preferences
from rlaif.training.data.tokens import tokenise_pairs
from rlaif.training.dpo.trainer import PairLoss, PreferenceTrainer, choose_layout
from rlaif.training.forward.dropout import disable_dropout
from rlaif.training.harness.folder import TrainingFolder, TrainResult
from rlaif.training.harness.inputs import Inputs, Said, read_settings
from rlaif.training.harness.progress import Style
from rlaif.training.harness.recipe import Recipe, train
from rlaif.training.harness.rows import Rows, name_source, places, read_rows
from rlaif.training.harness.trl import TrlLoop, samples_of, trainer_arguments
from rlaif.training.losses import (
    gdpo_loss,
    regression_loss,
    robust_loss,
    soft_dpo_loss,
    soft_ipo_loss,
)
from rlaif.training.models import load_policy, model_arguments
from rlaif.training.scorers import Scorer


def train_dpo(
    config: Said = None,
    *,
    dataset: Source | None = None,
    model: str | Path | None = None,
    out: str | Path | None = None,
    scorer: Scorer | None = None,
    force: bool = False,
    style: Style = "quiet",
    **overrides: Any,
) -> TrainResult:
    """Train a policy on preference pairs (`load_preferences`); repeat the call to resume.

    Arguments and errors are those of `rlaif.training.sft.train_sft`; settings are those of
    `rlaif.config.train.DpoConfig`.
    """
    settings = read_settings(DpoConfig, config, {**overrides, **places(dataset, model, out)})
    recipe = replace(DPO, build=partial(_build, scorer=scorer))
    return train(recipe, settings, name_source(settings, dataset), force=force, style=style)


def pair_loss_of(settings: DpoConfig) -> PairLoss | None:
    """Return the loss as a function of h and p; None for the losses TRL computes itself."""
    beta = settings.beta
    match settings.loss:
        case "soft":
            return partial(soft_dpo_loss, beta=beta)
        case "gdpo":
            return partial(gdpo_loss, beta=beta)
        case "ipo":
            return partial(soft_ipo_loss, beta=beta)
        case "robust":
            return partial(robust_loss, beta=beta, noise=settings.noise or 0.0)
        case "regression":
            return partial(regression_loss, beta=beta, clip=settings.logit_clip or 4.0)
        case _:
            return None


def _read(settings: DpoConfig, source: Source) -> Inputs[Rows]:
    return read_rows(settings, read_preferences(source, splits=(settings.split,)), tokenise_pairs)


def _load(settings: DpoConfig) -> Any:
    return load_policy(**model_arguments(settings))[0]


def _build(
    settings: DpoConfig,
    folder: TrainingFolder,
    policy: Any,
    inputs: Inputs[Rows],
    scorer: Scorer | None = None,
) -> TrlLoop:
    rows = inputs.data
    pair_loss = pair_loss_of(settings)
    disable_dropout(policy, adapters=False)
    precompute, reference = _reference_of(settings, len(rows.train.dataset))
    layout = _common_layout(
        *(
            choose_layout(model, own_loss=pair_loss is not None, length=inputs.plan["max_length"])
            for model in (policy, reference)
            if model is not None
        )
    )
    trainer = PreferenceTrainer(
        pair_loss=pair_loss,
        layout=layout,
        normalised=settings.length_normalised or settings.loss == "ipo",
        nll=settings.nll,
        reference_file=folder.checkpoints / "reference",
        model=policy,
        ref_model=reference,
        args=DPOConfig(
            **trainer_arguments(settings, folder, policy),
            beta=settings.beta,
            loss_type=_trl_losses(settings),
            loss_weights=[1.0, settings.nll] if pair_loss is None and settings.nll else None,
            label_smoothing=settings.noise or 0.0,
            precompute_ref_log_probs=precompute,
            disable_dropout=False,  # done above, but for that of adapters
        ),
        train_dataset=rows.train.dataset,
        eval_dataset=rows.held_out.dataset if rows.held_out else None,
        processing_class=inputs.tokenizer,
    )
    return TrlLoop(
        trainer,
        folder,
        samples=samples_of(settings, rows.texts, scorer),
        stop_after=settings.stop_after,
    )


DPO = Recipe(
    "dpo",
    _read,
    _load,
    _build,
    curves=(
        "loss",
        "rewards/margins",
        "rewards/agreement",
        "logps/chosen_per_token",
        "held_out/loss",
        "held_out/rewards/agreement",
        "samples/score",
        "grad_norm",
    ),
)


def _common_layout(*layouts: Layout) -> Layout:
    """Return the layout that policy and reference both take."""
    return next(layout for layout in ("trl", "apart", "shared") if layout in layouts)


def _trl_losses(settings: DpoConfig) -> list[str]:
    if pair_loss_of(settings) is not None:
        return ["sigmoid"]  # not used: TRL only checks the name
    return [settings.loss, "sft"] if settings.nll else [settings.loss]


def _reference_of(settings: DpoConfig, rows: int) -> tuple[bool, Any]:
    """Decide how reference log-probabilities are found: precomputed or not, and by which model.

    Precomputing costs one forward pass per pair, however many epochs follow, and no memory during
    training; it only loses when most pairs are never reached.
    """
    way: str = settings.reference
    if way == "auto":
        seen = (settings.max_steps or rows) * settings.batch_size * settings.accumulate
        fallback = "adapter-off" if settings.lora and not settings.reference_model else None
        way = "precomputed" if seen >= rows // 2 else fallback or "second-model"
    if way == "adapter-off":
        return False, None
    if way == "precomputed" and settings.reference_model is None:
        return True, None
    reference, _ = load_policy(
        settings.reference_model or settings.model,
        dtype=settings.dtype,
        revision=None if settings.reference_model else settings.revision,
        chat_template=settings.chat_template,
        frozen=True,
    )
    return way == "precomputed", reference
