"""Supervised fine-tuning on demonstrations: the loss is over responses only.

    L = − Σ_t log π(y_t | x, y_<t) / N,    N = all response tokens of an optimiser step

TRL's SFTTrainer runs the loop; what is learned is decided here: which turns, where a response
starts (the chat template's own tokens that end a turn belong to it, so that the policy learns to
stop), and, on a CPU, that the output head runs over response tokens alone. With ``packing`` several
demonstrations share a row; positions start again at each, and attention does not cross.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl.data_utils import pack_dataset
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer
from typing_extensions import override

from rlaif.config.train import SftConfig
from rlaif.training.data.mix import Part, mix_in
from rlaif.training.data.read import Source, read_demonstrations
from rlaif.training.data.sampler import LengthSampler
from rlaif.training.data.tokens import plain_strings, tokenise_demonstrations
from rlaif.training.forward.logprobs import causal_model, find_head
from rlaif.training.forward.reading import attach_scoring
from rlaif.training.harness.folder import TrainingFolder, TrainResult
from rlaif.training.harness.inputs import Inputs, Said, read_settings
from rlaif.training.harness.progress import Style
from rlaif.training.harness.recipe import Recipe, train
from rlaif.training.harness.rows import Rows, name_source, places, read_rows
from rlaif.training.harness.trl import TrlLoop, samples_of, trainer_arguments
from rlaif.training.models import load_policy, model_arguments
from rlaif.training.scorers import Scorer


def train_sft(
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
    """Fine-tune a policy on demonstrations; repeat the call to resume.

    A base model becomes a chat model with ``chat_template="chatml"``; the template is saved with
    the tokenizer.

    Args:
        config: A training file, a mapping or settings; see `rlaif.config.train.SftConfig`.
        dataset: See `rlaif.training.data.read.load_demonstrations`; or ``data`` in ``config``.
        model: A shipped name, a folder or a hub id.
        out: Where the checkpoint goes; plain transformers loads it.
        scorer: Scores the replies that ``samples`` asks for; changes nothing else.
        force: Start over instead of resuming, or of leaving a finished training alone.
        style: How progress is shown.
        overrides: Any setting by name, such as ``epochs=2`` or ``lora={"r": 8}``.

    Raises:
        InputError: Settings, data or model cannot be used; nothing was started.
        TrainingError: Out of memory, or the loss is NaN; what was reached is saved.
        KeyboardInterrupt: A stop was requested; the current step is finished and saved.
    """
    settings = read_settings(SftConfig, config, {**overrides, **places(dataset, model, out)})
    recipe = replace(SFT, build=partial(_build, scorer=scorer))
    return train(recipe, settings, name_source(settings, dataset), force=force, style=style)


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


def _read(settings: SftConfig, source: Source) -> Inputs[Rows]:
    loaded = read_demonstrations(source, turns=settings.turns, splits=(settings.split,))
    if settings.mix:
        parts = [
            Part(read_demonstrations(mixed.data, turns=settings.turns), mixed.ratio)
            for mixed in settings.mix
        ]
        plain = plain_strings(settings.chat_template)
        loaded = mix_in(loaded, parts, plain=plain, seed=settings.seed)
    return read_rows(settings, loaded, tokenise_demonstrations)


def _load(settings: SftConfig) -> Any:
    return load_policy(**model_arguments(settings))[0]


def _build(
    settings: SftConfig,
    folder: TrainingFolder,
    policy: Any,
    inputs: Inputs[Rows],
    scorer: Scorer | None = None,
) -> TrlLoop:
    rows = inputs.data
    trainer = DemonstrationTrainer(
        sparse=_prepare(policy),
        model=policy,
        args=SFTConfig(
            **trainer_arguments(settings, folder, policy),
            packing=settings.packing,
            eval_packing=False,
            completion_only_loss=False,  # our labels say what is learned
        ),
        train_dataset=_labelled(rows.train.dataset),
        eval_dataset=_labelled(rows.held_out.dataset) if rows.held_out else None,
        processing_class=inputs.tokenizer,
    )
    return TrlLoop(
        trainer,
        folder,
        samples=samples_of(settings, rows.texts, scorer),
        stop_after=settings.stop_after,
    )


SFT = Recipe(
    "sft",
    _read,
    _load,
    _build,
    curves=("loss", "held_out/loss", "samples/score", "grad_norm", "learning_rate"),
)


def _labelled(dataset: Dataset) -> Dataset:
    """Join prompts and responses; only the assistant's tokens of responses are labels."""
    rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for row in dataset:
        prompt, response = row["prompt_ids"], row["completion_ids"]
        learned = row.get("completion_learned") or [True] * len(response)
        labels = [t if keep else -100 for t, keep in zip(response, learned, strict=True)]
        rows["input_ids"].append(prompt + response)
        rows["labels"].append([-100] * len(prompt) + labels)
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
