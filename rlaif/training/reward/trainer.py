"""The trainer: TRL's RewardTrainer with one soft label per pair.

From TRL: the training loop, distributed set-up, logging. Ours: batches, the loss, and metrics that
know the label.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from trl.trainer.reward_trainer import RewardTrainer
from typing_extensions import override

from rlaif.training.data.pairs import COLUMNS, Layout, PairCollator, Row, pair_length
from rlaif.training.data.sampler import LengthSampler
from rlaif.training.forward.reading import attach_reading, shares_prompts
from rlaif.training.harness.equal_rows import EqualRows
from rlaif.training.losses import soft_reward_loss
from rlaif.training.reward.measure import ScoredPairs


def choose_layout(scorer: Any, *, length: int | None = None) -> Layout:
    """Choose how pairs are laid out (`rlaif.training.data.pairs`), and prepare the scorer for it.

    A shared prompt saves the most on a CPU. On a GPU the model's own forward is left alone.
    ``length`` is the most tokens of a prompt with one response; see `shares_prompts`.
    """
    on_cpu = next(scorer.parameters()).device.type == "cpu" and not torch.cuda.is_available()
    if not on_cpu or not attach_reading(scorer):
        return "apart"

    def score(batch: dict[str, Tensor]) -> Tensor:
        return score_ends(scorer, batch, layout="shared" if "position_ids" in batch else "apart")

    return "shared" if shares_prompts(scorer, score, length=length) else "apart"


def score_ends(scorer: Any, batch: dict[str, Tensor], *, layout: Layout) -> Tensor:
    """Return scores ``[2B]``, chosen first."""
    scores_2B: Tensor
    if layout == "shared":
        names = ("input_ids", "attention_mask", "position_ids")
        given = {name: batch[name] for name in names}
        scores_2B = scorer(**given, score_positions=batch["ends"])
    else:
        output = scorer(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        scores_2B = output.logits.squeeze(-1)
    return scores_2B


class ScorerTrainer(EqualRows, RewardTrainer):
    """TRL's RewardTrainer, version 1.16, for token rows with ``chosen_prob``.

    Args:
        layout: From `choose_layout`.
        soft: Whether labels are probabilities; else every label is taken as certain.
        margin_scale: Scores should differ by this times the ``margin`` column; 0 is plain.
        centring: Weight of the pull of both scores' sum to 0.
        trl: Everything TRL's trainer takes; the rows are those of `tokenise_pairs`.
    """

    def __init__(
        self,
        *,
        layout: Layout,
        soft: bool = True,
        margin_scale: float = 0.0,
        centring: float = 0.0,
        **trl: Any,
    ) -> None:
        self._layout: Layout = layout
        self._soft = soft
        self._margin_scale = margin_scale
        self._centring = centring
        collator = PairCollator(trl["processing_class"].pad_token_id, layout, margin_scale > 0)
        super().__init__(data_collator=collator, **trl)

    @override
    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """Rows come tokenised and checked."""
        return dataset

    @override
    def _set_signature_columns_if_needed(self) -> None:
        columns: Any = list(COLUMNS)
        self._signature_columns = columns

    @override
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return LengthSampler(
            [pair_length(row, self._layout) for row in rows],
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
        del num_items_in_batch  # the loss is a mean over pairs
        if return_outputs:
            raise NotImplementedError("scores are measured by rlaif.training.reward.measure")
        p_B = inputs["chosen_prob"]
        margin_B: Any = self._margin_scale * inputs["margin"] if self._margin_scale else 0.0
        chosen_B, rejected_B = score_ends(model, inputs, layout=self._layout).float().chunk(2)
        losses_B = soft_reward_loss(
            chosen_B,
            rejected_B,
            p_B if self._soft else torch.ones_like(p_B),
            margin_B=margin_B,
            centring=self._centring,
        )
        self._measure(chosen_B.detach(), rejected_B.detach(), p_B)
        return losses_B.mean() * self.share_of(len(p_B))

    @override
    def prediction_step(
        self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any
    ) -> tuple[Tensor, None, None]:
        """Measure the loss on held-out pairs; their scores are measured at the end."""
        with torch.no_grad():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def score_rows(self, rows: Sequence[Row], batch_size: int) -> ScoredPairs:
        """Score pairs as they stand now, longest first."""
        order = sorted(range(len(rows)), key=lambda i: -pair_length(rows[i], self._layout))
        both = np.zeros((2, len(rows)))
        model: Any = self.model
        model.eval()
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            batch: Any = self._prepare_inputs(self.data_collator([dict(rows[i]) for i in places]))
            with torch.no_grad():
                scores_2B = score_ends(model, batch, layout=self._layout)
            for side, scores_B in enumerate(scores_2B.float().chunk(2)):
                both[side, places] = scores_B.cpu().numpy()
        return ScoredPairs(
            chosen=both[0],
            rejected=both[1],
            labels=np.array([row["chosen_prob"] for row in rows]),
            more_tokens=np.array(
                [len(row["chosen_ids"]) - len(row["rejected_ids"]) for row in rows], dtype=float
            ),
            prompts=[tuple(row["prompt_ids"]) for row in rows],
        )

    def _measure(self, chosen_B: Tensor, rejected_B: Tensor, p_B: Tensor) -> None:
        """Log accuracy against the label and where the scores lie."""
        side_B = (torch.sign(chosen_B - rejected_B) + 1) / 2
        values_BK = torch.stack(
            (
                side_B,
                side_B * p_B + (1 - side_B) * (1 - p_B),
                chosen_B - rejected_B,
                chosen_B,
                rejected_B,
            ),
            dim=1,
        )
        rows_KB = self.gather_rows(values_BK)
        names = ("accuracy", "agreement", "margin", "score/chosen", "score/rejected")
        metrics = self._metrics["train" if torch.is_grad_enabled() else "eval"]
        for name, values in zip(names, rows_KB, strict=True):
            metrics[name].extend(values)  # TRL takes the mean: every pair counts alike
