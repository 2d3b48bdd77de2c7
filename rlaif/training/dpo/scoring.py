"""Log-probabilities of both responses of a pair: the only thing a preference loss needs.

On a CPU every position that is computed costs, so the output head runs over response tokens alone
and, where the architecture allows it, the prompt is computed once for both responses. On a GPU
TRL's fused kernels do the first and are left to it.
"""

import functools
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from rlaif.training.dpo.batches import Layout, PairCollator
from rlaif.training.ppo.head import Head, head_logprobs
from rlaif.training.ppo.logprobs import causal_model, find_head

_CLOSE = 1e-3
"""Nats by which the two layouts may differ on a probe of a few tokens."""


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
    return "shared" if _shares_prompts(model) else "apart"


def attach_scoring(model: Any, head: Head) -> None:
    """Let ``model(..., score_positions=, score_labels=)`` return log-probabilities ``[N]``.

    Going through the model's own forward keeps distributed wrappers and adapters in effect.
    """
    whole = causal_model(model)
    original = whole.forward

    @functools.wraps(type(whole).forward)
    def forward(
        self: Any,
        *args: Any,
        score_positions: Tensor | None = None,
        score_labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if score_positions is None or score_labels is None:
            return original(*args, **kwargs)
        given = {name: value for name, value in kwargs.items() if value is not None}
        hidden = self.base_model(*args, **given | {"use_cache": False}).last_hidden_state
        hidden_ND = hidden.reshape(-1, hidden.shape[-1])[score_positions]
        return head_logprobs(hidden_ND, score_labels, head, temperature=1.0, entropy=False)[0]

    whole.forward = MethodType(forward, whole)


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


def _shares_prompts(model: Any) -> bool:
    """Whether a pair gives the same numbers in one row as in two."""
    if causal_model(model).config._attn_implementation != "sdpa":
        return False
    row = {
        "prompt_ids": [1, 2, 3, 4],
        "chosen_ids": [5, 6, 7],
        "rejected_ids": [8, 9],
        "chosen_prob": 1.0,
    }
    short = {**row, "prompt_ids": [3], "chosen_ids": [2], "rejected_ids": [4]}
    found = []
    training = model.training
    model.eval()
    layouts: tuple[Layout, ...] = ("shared", "apart")
    try:
        for layout in layouts:
            with torch.no_grad():
                batch = PairCollator(0, layout)([row, short])
                found.append(score_pairs(model, batch)[0])
    except (RuntimeError, ValueError, TypeError):
        return False  # an architecture that does not take such masks at all
    finally:
        model.train(training)
    return bool(torch.allclose(found[0], found[1], rtol=0, atol=_CLOSE))
