"""The trainer: TRL's DPOTrainer with one soft label per pair, and losses from pure functions.

From TRL: the training loop, distributed set-up, adapters as reference, logging, its own losses.
Ours: what a batch is, log-probabilities on a CPU, the loss, metrics that know the label.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.dpo_trainer import DPOTrainer
from typing_extensions import override

from rlaif.errors import InputError
from rlaif.runs.files import make_folder, write_whole
from rlaif.training.data.pairs import COLUMNS, Layout, PairCollator, Row, pair_length
from rlaif.training.data.sampler import LengthSampler
from rlaif.training.forward.logprobs import causal_model, find_head
from rlaif.training.forward.reading import attach_scoring, shares_prompts
from rlaif.training.harness.equal_rows import EqualRows
from rlaif.training.losses import chosen_nll, log_ratio_difference

PairLoss = Callable[[Tensor, Tensor], Tensor]
"""``(h_B, p_B) -> losses_B``; see `rlaif.training.losses`."""


class PreferenceTrainer(EqualRows, DPOTrainer):
    """TRL's DPOTrainer, version 1.16, for token rows with ``chosen_prob``.

    Args:
        pair_loss: The loss; None uses the ``loss_type`` of TRL's configuration, which ignores
            soft labels.
        layout: From `rlaif.training.dpo.trainer.choose_layout`.
        normalised: Whether h is a difference of mean token log-ratios.
        nll: Weight of the chosen responses' NLL, ≥ 0 (own losses only; TRL's use ``sft``).
        reference_file: Where precomputed reference log-probabilities are kept for a resume.
        trl: Everything TRL's trainer takes; the rows are those of `tokenise_pairs`.
    """

    def __init__(
        self,
        *,
        pair_loss: PairLoss | None,
        layout: Layout,
        normalised: bool = False,
        nll: float = 0.0,
        reference_file: Path | None = None,
        **trl: Any,
    ) -> None:
        arguments = trl["args"]
        if pair_loss is not None and not _is_plain(arguments):
            raise InputError(
                "soft labels cannot be combined with ld_alpha, f_divergence_type or use_weighting",
                hint="their losses are not functions of the plain log-ratio difference",
            )
        self._pair_loss = pair_loss
        self._layout: Layout = layout
        self._normalised = normalised
        self._nll = nll
        self._reference_file = reference_file
        collator = PairCollator(trl["processing_class"].pad_token_id, layout)
        super().__init__(data_collator=collator, **trl)
        self._drop_reference_copy()

    @override
    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """Rows come tokenised and checked."""
        return dataset

    @override
    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[no-untyped-call]
        columns: Any = self._signature_columns
        columns.extend(name for name in COLUMNS if name not in columns)

    @override
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return LengthSampler(
            [pair_length(row, self._layout) for row in rows],
            batch=self.args.train_batch_size * self.args.world_size,
            seed=self.args.seed,
        )

    @override
    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Score every row under the reference, longest first, once per training folder."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:  # sharded: TRL gathers the weights
            return super()._precompute_ref_logps(dataset, name, batch_size)
        path = self._reference_file and self._reference_file.with_suffix(f".{name}.npy")
        if path is not None and path.exists():
            both = np.load(path, allow_pickle=False)
        else:
            both = self._score_reference(list(dataset), batch_size)
            if path is not None and self.accelerator.is_main_process:
                make_folder(path.parent)
                write_whole(path, _as_npy(both))
        self.accelerator.wait_for_everyone()
        columns = {"ref_chosen_logps": both[0], "ref_rejected_logps": both[1]}
        return Dataset.from_dict({**dataset[:], **columns})

    @override
    def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> Any:
        if "score_positions" not in inputs:
            batch = {name: value for name, value in inputs.items() if name != "chosen_prob"}
            return super().compute_ref_log_probs(model, batch)  # type: ignore[no-untyped-call]
        with torch.no_grad(), self._as_reference():
            logprobs_2B, _, _ = score_pairs(model, inputs)
        return logprobs_2B.chunk(2)

    @override
    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        p_B = inputs.pop("chosen_prob")
        if self._pair_loss is None:
            loss = super()._compute_loss(  # type: ignore[no-untyped-call]
                model, inputs, return_outputs
            )
            return loss if return_outputs else loss * self.share_of(len(p_B))
        logprobs_2B, lengths_2B, output = score_pairs(model, inputs)
        if "ref_chosen_logps" in inputs:
            reference = (inputs["ref_chosen_logps"], inputs["ref_rejected_logps"])
        else:
            reference = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
        ref_2B = torch.cat(reference)
        h_B = log_ratio_difference(logprobs_2B, ref_2B, lengths_2B if self._normalised else None)
        loss = self._pair_loss(h_B, p_B).mean()
        if self._nll:
            loss = loss + self._nll * chosen_nll(logprobs_2B, lengths_2B)
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * output.aux_loss
        self._measure(logprobs_2B.detach(), ref_2B, lengths_2B, p_B)
        if return_outputs:
            raise NotImplementedError("compute_metrics is not supported: no logits are computed")
        return loss * self.share_of(len(p_B))

    def _drop_reference_copy(self) -> None:
        """Our adapters are always new, so the reference is the base; TRL copies them to be safe."""
        model: Any = self.model
        if "ref" in getattr(model, "peft_config", {}):
            model.delete_adapter("ref")

    def _as_reference(self) -> Any:
        """Adapters off while the policy's base serves as the reference."""
        from accelerate.utils import is_peft_model
        from trl.trainer.utils import use_adapter

        if self.ref_model is not None or not is_peft_model(self.model):
            return torch.no_grad()
        return use_adapter(self.accelerator.unwrap_model(self.model), adapter_name=None)

    def _score_reference(self, rows: list[Row], batch_size: int) -> Any:
        """Return ``[2, rows]``; each process scores its share."""
        order = sorted(range(len(rows)), key=lambda i: -pair_length(rows[i], self._layout))
        mine = order[self.accelerator.process_index :: self.accelerator.num_processes]
        both = torch.zeros((2, len(rows)), device=self.accelerator.device)
        reference = self.ref_model or self.model
        for start in range(0, len(mine), batch_size):
            places = mine[start : start + batch_size]
            batch = self._prepare_inputs(self.data_collator([dict(rows[i]) for i in places]))
            for side, logprobs_B in enumerate(self.compute_ref_log_probs(reference, batch)):
                both[side, places] = logprobs_B.float()
        shared: Tensor = self.accelerator.reduce(both, reduction="sum")
        return shared.cpu().numpy()

    def _measure(
        self, logprobs_2B: Tensor, ref_2B: Tensor, lengths_2B: Tensor, p_B: Tensor
    ) -> None:
        """Log what TRL logs under its names, and how far the policy agrees with the labels.

        ``rewards/agreement`` is the expected share of labels the policy's margin sides with: p
        where it prefers chosen, 1 − p where not, ½ at an exact zero; at best the mean of p.
        """
        chosen_B, rejected_B = (self.beta * (logprobs_2B - ref_2B)).chunk(2)
        side_B = (torch.sign(chosen_B - rejected_B) + 1) / 2
        chosen_logprobs_B, rejected_logprobs_B = logprobs_2B.chunk(2)
        values_BK = torch.stack(
            (
                chosen_B - rejected_B,
                (chosen_B > rejected_B).float(),
                side_B * p_B + (1 - side_B) * (1 - p_B),
                chosen_B,
                rejected_B,
                chosen_logprobs_B,
                rejected_logprobs_B,
                chosen_logprobs_B / lengths_2B[: len(p_B)].clamp(min=1),
                p_B,
            ),
            dim=1,
        )
        rows_KB = self.gather_rows(values_BK)
        metrics = self._metrics["train" if torch.is_grad_enabled() else "eval"]
        for name, values in zip(_NAMES, rows_KB, strict=True):
            metrics[name].extend(values)  # TRL takes the mean: every pair counts alike


_NAMES = (
    "rewards/margins",
    "rewards/accuracies",
    "rewards/agreement",
    "rewards/chosen",
    "rewards/rejected",
    "logps/chosen",
    "logps/rejected",
    "logps/chosen_per_token",
    "labels/chosen_prob",
)


def _as_npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _is_plain(arguments: Any) -> bool:
    plain = arguments.f_divergence_type == "reverse_kl" and not arguments.use_weighting
    return plain and arguments.ld_alpha is None


def choose_layout(model: Any, *, own_loss: bool, length: int | None = None) -> Layout:
    """Choose how pairs are laid out, and prepare the model for it; see `shares_prompts`.

    Args:
        model: The policy, adapted or not, on the CPU or a GPU.
        own_loss: False for a loss that TRL computes itself, which needs TRL's batch.
        length: Most tokens of a prompt with one response.
    """
    whole = causal_model(model)
    on_cpu = next(whole.parameters()).device.type == "cpu" and not torch.cuda.is_available()
    routed = hasattr(whole.config.get_text_config(), "output_router_logits")
    head = find_head(model) if own_loss and on_cpu and not routed else None
    if head is None:
        return "trl"
    attach_scoring(model, head)
    shared = shares_prompts(model, lambda batch: score_pairs(model, batch)[0], length=length)
    return "shared" if shared else "apart"


def score_pairs(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Any]:
    """Return summed log-probabilities ``[2B]``, chosen first, response lengths, and TRL's output.

    Args:
        model: Prepared by `choose_layout`, or by TRL for its layout; possibly wrapped.
        batch: From `PairCollator`.
    """
    if "score_positions" in batch:
        names = ("input_ids", "attention_mask", "position_ids", "score_positions", "score_labels")
        logprobs_N = model(**{name: batch[name] for name in names if name in batch})
        summed_2B = torch.zeros(len(batch["lengths"]), device=logprobs_N.device)
        return summed_2B.index_add(0, batch["score_rows"], logprobs_N), batch["lengths"], None
    mask_2BT = batch["completion_mask"]
    output = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        labels=batch["input_ids"].masked_fill(mask_2BT == 0, -100),
        use_cache=False,
        fused_lm_head=True,
    )
    # prompt-learning adapters put virtual tokens before the real ones
    logprobs_2BT = output.log_probs[:, -(mask_2BT.shape[1] - 1) :]
    return logprobs_2BT.sum(dim=1), mask_2BT[:, 1:].sum(dim=1), output
