"""Soft IPO: pull the log-ratio difference to a finite target instead of pushing without end.

    L = (h − (2p−1) / (2β))²

Source: Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human
Preferences" (arXiv 2310.12036), eq. 17 at p = 1, with their τ written β.
Our deviation: p per pair. The expectation of the hard loss over a label that is right with
probability p is p (h − t)² + (1−p) (h + t)² = (h − (2p−1) t)² + 4 p (1−p) t², t = 1/(2β); the last
term does not depend on the policy and is left out. Give h as the difference of *mean* token
log-ratios (``lengths_2B`` in `log_ratio_difference`), as TRL does after asking the authors.
"""

from torch import Tensor


def soft_ipo_loss(h_B: Tensor, p_B: Tensor, *, beta: float) -> Tensor:
    """Return the loss per pair, in squared nats per token.

    Args:
        h_B: Length-normalised; see `rlaif.training.losses.ratio`.
        p_B: P(chosen is better), in [0, 1].
        beta: > 0; the target margin is (2p−1)/(2β), so smaller means further from the reference.
    """
    return (h_B - (2.0 * p_B - 1.0) / (2.0 * beta)) ** 2
