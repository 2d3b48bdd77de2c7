"""Train a policy on preference pairs: DPO with soft labels, its relatives, and TRL's own losses."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlaif.config.train import DpoConfig
from rlaif.training.data.read import Source, read_preferences, split_held_out
from rlaif.training.data.tokens import Tokenised, plain_strings, tokenise_pairs
from rlaif.training.dpo.scoring import choose_layout
from rlaif.training.dpo.trainer import PairLoss, PreferenceTrainer
from rlaif.training.harness.card import write_card
from rlaif.training.harness.folder import TrainingFolder, TrainResult, open_training
from rlaif.training.harness.progress import Style, sample_prompts
from rlaif.training.harness.run import (
    quiet_libraries,
    run_trainer,
    save_final,
    seed_all,
    trainer_arguments,
)
from rlaif.training.harness.settings import (
    build_settings,
    is_main_process,
    lora_settings,
    plan_of,
    usable_length,
)
from rlaif.training.losses import (
    gdpo_loss,
    regression_loss,
    robust_loss,
    soft_dpo_loss,
    soft_ipo_loss,
)
from rlaif.training.models import load_policy, load_tokenizer

_CURVES = ("loss", "rewards/margins", "rewards/agreement", "logps/chosen_per_token", "grad_norm")


def train_dpo(
    *,
    dataset: Source | None = None,
    model: str | Path | None = None,
    out: str | Path | None = None,
    config: DpoConfig | Mapping[str, Any] | str | Path | None = None,
    force: bool = False,
    style: Style = "quiet",
    **overrides: Any,
) -> TrainResult:
    """Train a policy on preference pairs; repeat the call to resume.

    Args:
        dataset: See `rlaif.training.data.read.load_preferences`; or name it as ``data`` in
            ``config``.
        model: A shipped name, a folder or a hub id.
        out: Where the checkpoint goes; plain transformers loads it.
        config: A training file, a mapping or settings; see `rlaif.config.train.DpoConfig`.
        force: Start over instead of resuming, or of leaving a finished training alone.
        style: How progress is shown.
        overrides: Any setting by name, such as ``beta=0.2`` or ``lora={"r": 8}``.

    Raises:
        InputError: Settings, data or model are unfit; nothing was started.
        TrainingError: Out of memory, or the loss is no number; what was reached is saved.
        KeyboardInterrupt: Asked to stop; the step that was going on is saved.
    """
    settings, source = build_settings(
        DpoConfig, config, dataset=dataset, model=model, out=out, overrides=overrides
    )
    with quiet_libraries():
        return _train(settings, source, force=force, style=style)


def pair_loss_of(settings: DpoConfig) -> PairLoss | None:
    """Return the loss as a function of h and p; None for the losses TRL computes itself."""
    beta = settings.beta
    match settings.loss:
        case "soft":
            return functools.partial(soft_dpo_loss, beta=beta)
        case "gdpo":
            return functools.partial(gdpo_loss, beta=beta)
        case "ipo":
            return functools.partial(soft_ipo_loss, beta=beta)
        case "robust":
            return functools.partial(robust_loss, beta=beta, noise=settings.noise or 0.0)
        case "regression":
            return functools.partial(regression_loss, beta=beta, clip=settings.logit_clip or 4.0)
        case _:
            return None


def build_trainer(
    settings: DpoConfig,
    folder: TrainingFolder,
    policy: Any,
    tokenizer: Any,
    tokens: Tokenised,
    held_out: Tokenised | None = None,
) -> PreferenceTrainer:
    """Put policy, data and loss together; precomputes reference log-probabilities if asked."""
    from trl.trainer.dpo_config import DPOConfig

    pair_loss = pair_loss_of(settings)
    layout = choose_layout(policy, own_loss=pair_loss is not None)
    precompute, reference = _reference_of(settings, len(tokens.dataset))
    if reference is not None and layout != "trl":
        choose_layout(reference, own_loss=True)
    arguments = DPOConfig(
        **trainer_arguments(settings, folder, policy),
        beta=settings.beta,
        loss_type=_trl_losses(settings),
        loss_weights=[1.0, settings.nll] if pair_loss is None and settings.nll else None,
        label_smoothing=settings.noise or 0.0,
        precompute_ref_log_probs=precompute,
    )
    return PreferenceTrainer(
        pair_loss=pair_loss,
        layout=layout,
        normalised=settings.length_normalised or settings.loss == "ipo",
        nll=settings.nll,
        reference_file=folder.checkpoints / "reference",
        model=policy,
        ref_model=reference,
        args=arguments,
        train_dataset=tokens.dataset,
        eval_dataset=held_out.dataset if held_out else None,
        processing_class=tokenizer,
    )


def _train(settings: DpoConfig, source: Source, *, force: bool, style: Style) -> TrainResult:
    loaded = read_preferences(source)
    tokenizer = load_tokenizer(
        settings.model, revision=settings.revision, chat_template=settings.chat_template
    )
    max_length = usable_length(settings)
    plain = plain_strings(settings.chat_template)
    rows, held_rows = split_held_out(loaded.dataset, settings.held_out, settings.seed)
    tokens = tokenise_pairs(rows, tokenizer, max_length=max_length, plain=plain)
    held: Tokenised | None = None
    if held_rows is not None:
        held = tokenise_pairs(held_rows, tokenizer, max_length=max_length, plain=plain)
    plan = plan_of(settings, max_length, tokens.fingerprint, held.fingerprint if held else None)
    folder = open_training(settings.out, "dpo", plan, force=force, main=is_main_process())
    try:
        done = None if force else folder.finished()
        if done is not None:
            return done
        seed_all(settings.seed)
        policy, _ = load_policy(
            settings.model,
            dtype=settings.dtype,
            revision=settings.revision,
            lora=lora_settings(settings.lora),
            chat_template=settings.chat_template,
        )
        trainer = build_trainer(settings, folder, policy, tokenizer, tokens, held)
        result = run_trainer(
            trainer,
            folder,
            style=style,
            sample_prompts=sample_prompts(rows, settings.samples.prompts),
            sample_every=settings.samples.every,
            sample_tokens=settings.samples.max_tokens,
        )
        save_final(trainer, tokenizer, folder)
        if folder.is_main:
            write_card(
                folder.out,
                result=result,
                plan={**plan, "reference_model": settings.reference_model},
                model=settings.model,
                loaded=loaded,
                notes=(*loaded.notes, *tokens.notes),
                curves=_CURVES,
            )
            folder.finish(result, keep_checkpoints=settings.keep_checkpoints)
        return result
    finally:
        folder.close()


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
