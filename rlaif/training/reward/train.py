"""Train a reward model on preference pairs with soft labels, and say what it is worth."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaif.config.train import RewardConfig
from rlaif.errors import InputError
from rlaif.training.data.read import Loaded, Source, read_preferences, split_held_out
from rlaif.training.data.tokens import Tokenised, plain_strings, tokenise_pairs
from rlaif.training.harness.card import write_card
from rlaif.training.harness.folder import TrainingFolder, TrainResult, open_training
from rlaif.training.harness.progress import Style
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
from rlaif.training.models import load_scorer, load_tokenizer
from rlaif.training.reward.measure import measure_scores
from rlaif.training.reward.trainer import ScorerTrainer, choose_layout

_CURVES = ("loss", "accuracy", "agreement", "margin", "score/chosen", "grad_norm")


def train_reward(
    *,
    dataset: Source | None = None,
    model: str | Path | None = None,
    out: str | Path | None = None,
    config: RewardConfig | Mapping[str, Any] | str | Path | None = None,
    force: bool = False,
    style: Style = "quiet",
    **overrides: Any,
) -> TrainResult:
    """Train a reward model on preference pairs; repeat the call to resume.

    The result loads in plain transformers as sequence classification with one label, its score
    read at the last token. ``metrics["held_out"]`` holds accuracy, calibration and length
    correlation, each with an interval; ``metrics["gold"]`` the same per gold set.

    Args:
        dataset: See `rlaif.training.data.read.load_preferences`; or name it as ``data`` in
            ``config``.
        model: A policy to start from, or a reward model to go on with.
        out: Where the checkpoint goes.
        config: A training file, a mapping or settings; see `rlaif.config.train.RewardConfig`.
        force: Start over instead of resuming, or of leaving a finished training alone.
        style: How progress is shown.
        overrides: Any setting by name.

    Raises:
        InputError: Settings, data or model are unfit; nothing was started.
        TrainingError: Out of memory, or the loss is no number; what was reached is saved.
        KeyboardInterrupt: Asked to stop; the step that was going on is saved.
    """
    settings, source = build_settings(
        RewardConfig, config, dataset=dataset, model=model, out=out, overrides=overrides
    )
    with quiet_libraries():
        return _train(settings, source, force=force, style=style)


def gold_names(sources: Sequence[str]) -> dict[str, str]:
    """Name each set by the end of its path, with as many folders as tell it from the others."""
    paths = [Path(source).parent / Path(source).stem for source in sources]
    for parts in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, sources, strict=True))
    return dict(zip(sources, sources, strict=True))  # they differ by the ending alone


def build_trainer(
    settings: RewardConfig, folder: TrainingFolder, scorer: Any, tokenizer: Any, tokens: Tokenised
) -> ScorerTrainer:
    """Put scorer, data and loss together."""
    from trl.trainer.reward_config import RewardConfig as Arguments

    return ScorerTrainer(
        layout=choose_layout(scorer),
        soft=settings.labels == "soft",
        margin_scale=settings.margin_scale,
        centring=settings.centring,
        model=scorer,
        args=Arguments(**trainer_arguments(settings, folder, scorer)),
        train_dataset=tokens.dataset,
        processing_class=tokenizer,
    )


def _train(settings: RewardConfig, source: Source, *, force: bool, style: Style) -> TrainResult:
    loaded = read_preferences(source)
    if settings.margin_scale and "margin" not in loaded.dataset.column_names:
        raise InputError("margin_scale needs a margin column", hint="set margin_scale to 0")
    tokenizer = load_tokenizer(
        settings.model,
        revision=settings.revision,
        chat_template=settings.chat_template,
        separate_pad=True,
    )
    max_length = usable_length(settings)
    rows, held_rows = split_held_out(loaded.dataset, settings.held_out, settings.seed)
    tokens = _tokens(rows, tokenizer, settings, max_length)
    measured: dict[str, Tokenised] = {}
    if held_rows is not None:
        measured["held_out"] = _tokens(held_rows, tokenizer, settings, max_length)
    held_out = [part.fingerprint for part in measured.values()]
    gold = {
        name: _tokens(read_preferences(source).dataset, tokenizer, settings, max_length)
        for name, source in gold_names(settings.gold).items()
    }
    plan = plan_of(settings, max_length, tokens.fingerprint, *held_out)
    plan["gold"] = {name: part.fingerprint for name, part in gold.items()}
    measured |= {f"gold.{name}": part for name, part in gold.items()}
    folder = open_training(settings.out, "reward", plan, force=force, main=is_main_process())
    try:
        done = None if force else folder.finished()
        if done is not None:
            return done
        seed_all(settings.seed)
        scorer, _ = load_scorer(
            settings.model,
            dtype=settings.dtype,
            revision=settings.revision,
            lora=lora_settings(settings.lora),
            chat_template=settings.chat_template,
        )
        trainer = build_trainer(settings, folder, scorer, tokenizer, tokens)
        result = run_trainer(trainer, folder, style=style)
        result = _measured(result, trainer, measured, settings)
        save_final(trainer, tokenizer, folder)
        if folder.is_main:
            _write_up(folder, result, plan, settings, loaded, tokens)
        return result
    finally:
        folder.close()


def _tokens(rows: Any, tokenizer: Any, settings: RewardConfig, max_length: int) -> Tokenised:
    plain = plain_strings(settings.chat_template)
    return tokenise_pairs(rows, tokenizer, max_length=max_length, plain=plain)


def _measured(
    result: TrainResult,
    trainer: ScorerTrainer,
    parts: Mapping[str, Tokenised],
    settings: RewardConfig,
) -> TrainResult:
    found = {}
    for name, part in parts.items():
        pairs = trainer.score_rows(list(part.dataset), settings.batch_size)
        found[name] = measure_scores(pairs, seed=settings.seed)
    return dataclasses.replace(result, metrics={**result.metrics, **found})


def _write_up(
    folder: TrainingFolder,
    result: TrainResult,
    plan: Mapping[str, Any],
    settings: RewardConfig,
    loaded: Loaded,
    tokens: Tokenised,
) -> None:
    write_card(
        folder.out,
        result=result,
        plan=plan,
        model=settings.model,
        loaded=loaded,
        notes=(*loaded.notes, *tokens.notes),
        curves=_CURVES,
    )
    folder.finish(result, keep_checkpoints=settings.keep_checkpoints)
