"""Chosen-NLL: keep the chosen responses likely while the margin grows.

    L_NLL = − Σ_i log π(y_c,i) / Σ_i n_i

Source: the NLL term of RPO / iterative reasoning preference optimisation, Pang et al. 2024
(arXiv 2404.19733), eq. 1; DPO alone may lower log π(y_c) as long as log π(y_r) falls faster.
Our deviation: one mean over all chosen tokens of the batch (as TRL's ``sft`` loss), not a mean of
per-response means, so that long responses are not underweighted token by token.
"""

from torch import Tensor


def chosen_nll(logprobs_2B: Tensor, lengths_2B: Tensor) -> Tensor:
    """Return the scalar mean negative log-likelihood, nats per chosen token.

    Args:
        logprobs_2B: Summed response log-probabilities under the policy; [chosen; rejected].
        lengths_2B: Response tokens.
    """
    chosen_B, _ = logprobs_2B.chunk(2)
    lengths_B, _ = lengths_2B.chunk(2)
    return -chosen_B.sum() / lengths_B.sum().clamp(min=1)
