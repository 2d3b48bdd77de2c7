"""Log-probabilities of both responses of a pair: the only thing a preference loss needs.

On a CPU every position that is computed costs, so the output head runs over response tokens alone
and, where the architecture allows it, the prompt is computed once for both responses. On a GPU
TRL's fused kernels do the first and are left to it.
"""

from typing import Any

import torch
from torch import Tensor

from rlaif.training.data.pairs import Layout
from rlaif.training.forward.logprobs import causal_model, find_head
from rlaif.training.forward.reading import attach_scoring, shares_prompts


def choose_layout(model: Any, *, own_loss: bool) -> Layout:
    """Choose how pairs are laid out, and prepare the model for it.

    Whether the architecture gives the same numbers with a shared prompt is *tried* on a few
    tokens: recurrent, windowed or position-biased attention would not.

    Args:
        model: The policy, adapted or not, on the CPU or a GPU.
        own_loss: False for a loss that TRL computes itself, which needs TRL's batch.
    """
    whole = causal_model(model)
    on_cpu = next(whole.parameters()).device.type == "cpu" and not torch.cuda.is_available()
    routed = hasattr(whole.config.get_text_config(), "output_router_logits")
    head = find_head(model) if own_loss and on_cpu and not routed else None
    if head is None:
        return "trl"
    attach_scoring(model, head)
    return (
        "shared" if shares_prompts(model, lambda batch: score_pairs(model, batch)[0]) else "apart"
    )


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
