"""Supervised fine-tuning on demonstrations: the loss is over responses only.

    L = − Σ_t log π(y_t | x, y_<t) / N,    N = all response tokens of an optimiser step

TRL's SFTTrainer runs the loop; what is learned is decided here: which turns, where a response
starts (the chat template's own tokens that end a turn belong to it, so that the policy learns to
stop), and, on a CPU, that the output head runs over response tokens alone. With ``packing`` several
demonstrations share a row; positions start again at each, and attention does not cross.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl.data_utils import pack_dataset
from trl.trainer.sft_trainer import SFTTrainer
from typing_extensions import override

from rlaif.config.train import SftConfig
from rlaif.training.data.read import Source, read_demonstrations, split_held_out
from rlaif.training.data.sampler import LengthSampler
from rlaif.training.data.tokens import Tokenised, plain_strings, tokenise_demonstrations
from rlaif.training.forward.logprobs import causal_model, find_head
from rlaif.training.forward.reading import attach_scoring
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
from rlaif.training.models import load_policy, load_tokenizer

_CURVES = ("loss", "grad_norm", "learning_rate")


def train_sft(
    *,
    dataset: Source | None = None,
    model: str | Path | None = None,
    out: str | Path | None = None,
    config: SftConfig | Mapping[str, Any] | str | Path | None = None,
    force: bool = False,
    style: Style = "quiet",
    **overrides: Any,
) -> TrainResult:
    """Fine-tune a policy on demonstrations; repeat the call to resume.

    A base model becomes a chat model with ``chat_template="chatml"``; the template is saved with
    the tokenizer.

    Args:
        dataset: See `rlaif.training.data.read.load_demonstrations`; or ``data`` in ``config``.
        model: A shipped name, a folder or a hub id.
        out: Where the checkpoint goes; plain transformers loads it.
        config: A training file, a mapping or settings; see `rlaif.config.train.SftConfig`.
        force: Start over instead of resuming, or of leaving a finished training alone.
        style: How progress is shown.
        overrides: Any setting by name.

    Raises:
        InputError: Settings, data or model are unfit; nothing was started.
        TrainingError: Out of memory, or the loss is no number; what was reached is saved.
        KeyboardInterrupt: Asked to stop; the step that was going on is saved.
    """
    settings, source = build_settings(
        SftConfig, config, dataset=dataset, model=model, out=out, overrides=overrides
    )
    with quiet_libraries():
        return _train(settings, source, force=force, style=style)


class DemonstrationTrainer(SFTTrainer):
    """TRL's SFTTrainer, version 1.16, for rows of ``input_ids`` and ``labels``.

    Args:
        sparse: Whether the policy was prepared by `attach_scoring`, so that the output head runs
            over response tokens alone.
        trl: Everything TRL's trainer takes.
    """

    def __init__(self, *, sparse: bool, **trl: Any) -> None:
        self._sparse = sparse
        super().__init__(**trl)

    @override
    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: Any, packing: bool, *_: Any
    ) -> Any:
        """Rows come tokenised; they are only packed here, if asked."""
        if not packing:
            return dataset
        rows = dataset.select_columns(["input_ids", "labels"]).shuffle(seed=args.seed)
        return pack_dataset(rows, args.max_length, "bfd", {})

    @override
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return LengthSampler(
            [len(ids) for ids in rows["input_ids"]],
            batch=self.args.train_batch_size * self.args.world_size,
            seed=self.args.seed,
        )

    @override
    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        if not self._sparse or return_outputs:
            return super().compute_loss(  # type: ignore[no-untyped-call]
                model, inputs, return_outputs, num_items_in_batch
            )
        labels_BT = inputs["labels"]
        learned_BT = torch.zeros_like(labels_BT, dtype=torch.bool)
        learned_BT[:, :-1] = labels_BT[:, 1:] != -100  # position t predicts token t + 1
        names = ("input_ids", "attention_mask", "position_ids")
        logprobs_N = model(
            **{name: inputs[name] for name in names if name in inputs},
            score_positions=learned_BT.flatten().nonzero().squeeze(1),
            score_labels=labels_BT[:, 1:][learned_BT[:, :-1]],
        )
        count = len(logprobs_N) if num_items_in_batch is None else num_items_in_batch
        loss = -logprobs_N.sum() / torch.as_tensor(count).clamp(min=1)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # which DDP's mean over ranks divides by
        return loss


def build_trainer(
    settings: SftConfig,
    folder: TrainingFolder,
    policy: Any,
    tokenizer: Any,
    tokens: Tokenised,
    held_out: Tokenised | None = None,
) -> DemonstrationTrainer:
    """Put policy, data and loss together."""
    from trl.trainer.sft_config import SFTConfig

    arguments = SFTConfig(
        **trainer_arguments(settings, folder, policy),
        packing=settings.packing,
        eval_packing=False,
        completion_only_loss=False,  # our labels say what is learned
    )
    return DemonstrationTrainer(
        sparse=_prepare(policy),
        model=policy,
        args=arguments,
        train_dataset=_labelled(tokens.dataset),
        eval_dataset=_labelled(held_out.dataset) if held_out else None,
        processing_class=tokenizer,
    )


def _train(settings: SftConfig, source: Source, *, force: bool, style: Style) -> TrainResult:
    loaded = read_demonstrations(source, turns=settings.turns)
    tokenizer = load_tokenizer(
        settings.model, revision=settings.revision, chat_template=settings.chat_template
    )
    max_length = usable_length(settings)
    plain = plain_strings(settings.chat_template)
    rows, held_rows = split_held_out(loaded.dataset, settings.held_out, settings.seed)
    tokens = tokenise_demonstrations(rows, tokenizer, max_length=max_length, plain=plain)
    held: Tokenised | None = None
    if held_rows is not None:
        held = tokenise_demonstrations(held_rows, tokenizer, max_length=max_length, plain=plain)
    plan = plan_of(settings, max_length, tokens.fingerprint, held.fingerprint if held else None)
    folder = open_training(settings.out, "sft", plan, force=force, main=is_main_process())
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
                plan=plan,
                model=settings.model,
                loaded=loaded,
                notes=(*loaded.notes, *tokens.notes),
                curves=_CURVES,
            )
            folder.finish(result, keep_checkpoints=settings.keep_checkpoints)
        return result
    finally:
        folder.close()


def _labelled(dataset: Dataset) -> Dataset:
    """Join prompts and responses; only response tokens are labels."""
    rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for row in dataset:
        prompt, response = row["prompt_ids"], row["completion_ids"]
        rows["input_ids"].append(prompt + response)
        rows["labels"].append([-100] * len(prompt) + response)
    return Dataset.from_dict(rows)


def _prepare(policy: Any) -> bool:
    """Let the output head run over response tokens alone, where that saves something."""
    on_cpu = next(policy.parameters()).device.type == "cpu" and not torch.cuda.is_available()
    routed = hasattr(causal_model(policy).config.get_text_config(), "output_router_logits")
    head = find_head(policy) if on_cpu and not routed else None
    if head is None:
        return False
    attach_scoring(policy, head)
    return True
