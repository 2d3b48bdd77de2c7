"""The quantity every policy loss here is a function of: h, the difference of log-ratios.

    h = [log π(y_c) − log π_ref(y_c)] / n_c − [log π(y_r) − log π_ref(y_r)] / n_r

with n = 1 (DPO, arXiv 2305.18290, eq. 7) or n = the number of response tokens (length-normalised
DPO, the difference of mean token log-ratios; TRL calls it ``sigmoid_norm``).
Our deviation: a log-ratio that fp32 cannot tell from 0 is 0. The same sum computed in another batch
differs in its last digits, and Adam makes full steps of gradients that are nothing but such digits;
without this, a set of ties would move the policy.
"""

import torch
from torch import Tensor

_RESOLUTION = 2e-6
"""Relative to a sum of log-probabilities; five times the most that batch shapes were seen to do."""


def log_ratio_difference(
    logprobs_2B: Tensor, ref_logprobs_2B: Tensor, lengths_2B: Tensor | None = None
) -> Tensor:
    """Return ``h_B`` from summed response log-probabilities, chosen in the first half.

    Args:
        logprobs_2B: Under the policy, in nats; [chosen; rejected].
        ref_logprobs_2B: Under the reference, same order.
        lengths_2B: Response tokens, at least 1; divides each log-ratio when given.
    """
    ratios_2B = logprobs_2B - ref_logprobs_2B
    values_2B = ratios_2B.detach()
    is_noise_2B = values_2B.abs() <= _RESOLUTION * ref_logprobs_2B.abs()
    ratios_2B = torch.where(is_noise_2B, ratios_2B - values_2B, ratios_2B)  # 0, with its gradient
    if lengths_2B is not None:
        ratios_2B = ratios_2B / lengths_2B.clamp(min=1)
    chosen_B, rejected_B = ratios_2B.chunk(2)
    return chosen_B - rejected_B
