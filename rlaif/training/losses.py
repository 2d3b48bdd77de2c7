"""Preference losses: pure functions of tensors.

For policies the argument is ``h_B``, how much more the policy has moved towards the chosen response
than towards the rejected one, against the reference (`log_ratio_difference`); for reward models it
is the difference of two scores. ``p_B`` is the judge's probability, in [0, 1], that chosen is
better. Every function returns one loss per pair, ``[B]``, unreduced.

Axes: B pairs.
"""

import torch
from torch import Tensor, logit
from torch.nn.functional import logsigmoid

_RESOLUTION = 2e-6
"""Relative to a sum of log-probabilities; five times the most that batch shapes were seen to do."""


def log_ratio_difference(
    logprobs_2B: Tensor, ref_logprobs_2B: Tensor, lengths_2B: Tensor | None = None
) -> Tensor:
    """The quantity every policy loss here is a function of: h, the difference of log-ratios.

        h = [log π(y_c) − log π_ref(y_c)] / n_c − [log π(y_r) − log π_ref(y_r)] / n_r

    with n = 1 (DPO, arXiv 2305.18290, eq. 7) or n = the number of response tokens
    (length-normalised DPO, the difference of mean token log-ratios; TRL calls it
    ``sigmoid_norm``). Our deviation: a log-ratio that fp32 cannot tell from 0 is 0. The same sum
    computed in another batch differs in its last digits, and Adam makes full steps of gradients
    that are nothing but such digits; without this, a set of ties would move the policy.

    Return ``h_B`` from summed response log-probabilities, chosen in the first half.

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


def soft_dpo_loss(h_B: Tensor, p_B: Tensor, *, beta: float) -> Tensor:
    """Soft DPO: the DPO loss under a label that is a probability.

        L = −p log σ(βh) − (1−p) log σ(−βh)  =  −log σ(βh) + (1−p) βh

    Source: DPO, Rafailov et al. 2023 (arXiv 2305.18290), eq. 7 at p = 1; the soft form is
    conservative DPO (Mitchell 2023) with ε = 1−p per pair, and the cross-entropy that
    Constitutional AI and RLAIF train their preference models with (arXiv 2212.08073, 2309.00267).
    Our deviation: p is one number per pair, not one constant for the whole set. The minimum lies
    at the finite βh = logit p, so the policy learns the judge's distribution instead of running
    away.

    Return the loss per pair; at p = ½ its gradient vanishes at h = 0.

    Args:
        h_B: See `rlaif.training.losses`.
        p_B: P(chosen is better), in [0, 1].
        beta: Strength of the KL anchor, > 0; larger keeps the policy nearer to the reference.
    """
    x_B = beta * h_B
    return -logsigmoid(x_B) + (1.0 - p_B) * x_B


def robust_loss(h_B: Tensor, p_B: Tensor, *, beta: float, noise: float) -> Tensor:
    """Robust DPO: an unbiased loss when a known share of all labels is flipped.

        L = q · (−log σ(βh)) + (1−q) · (−log σ(−βh)),   q = (p − ε) / (1 − 2ε)

    Source: Chowdhury et al. 2024, "Provably Robust DPO" (arXiv 2403.00409): at p = 1 this is
    [(1−ε) l(h) − ε l(−h)] / (1−2ε), whose expectation over flips with probability ε is the clean
    loss. Our deviation: the label may be soft. p R(h) + (1−p) R(−h), with R the robust loss,
    collects into the line above. q leaves [0, 1] for p near 0 or 1, as in the paper: the loss is
    then unbounded below, so keep ε below the true noise rather than above it.

    Return the loss per pair.

    Args:
        h_B: See `rlaif.training.losses`.
        p_B: P(chosen is better) as the judge says, in [0, 1].
        beta: As in DPO.
        noise: ε, the share of labels believed to be flipped, in [0, ½).
    """
    q_B = (p_B - noise) / (1.0 - 2.0 * noise)
    x_B = beta * h_B
    return -q_B * logsigmoid(x_B) - (1.0 - q_B) * logsigmoid(-x_B)


def gdpo_loss(h_B: Tensor, p_B: Tensor, *, beta: float) -> Tensor:
    """GDPO, geometric-averaged DPO: the margin is scaled by how sure the label is.

        L = −log σ(β (2p−1) h)

    Source: Furuta et al. 2024, "Geometric-Averaged Preference Optimization for Soft Preference
    Labels" (arXiv 2409.06691): the two policies in DPO are replaced by p-weighted geometric
    means, which turns h into (2p−1) h. Our deviation: none. Against soft DPO: no finite optimum,
    but the gradient fades with 2p−1, so a doubtful pair moves the policy less instead of pulling
    it to a small margin.

    Return the loss per pair; at p = ½ it is the constant log 2.

    Args:
        h_B: See `rlaif.training.losses`.
        p_B: P(chosen is better), in [0, 1].
        beta: As in DPO.
    """
    return -logsigmoid(beta * (2.0 * p_B - 1.0) * h_B)


def soft_ipo_loss(h_B: Tensor, p_B: Tensor, *, beta: float) -> Tensor:
    """Soft IPO: pull the log-ratio difference to a finite target instead of pushing without end.

        L = (h − (2p−1) / (2β))²

    Source: Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human
    Preferences" (arXiv 2310.12036), eq. 17 at p = 1, with their τ written β. Our deviation: p per
    pair. The expectation of the hard loss over a label that is right with probability p is p (h −
    t)² + (1−p) (h + t)² = (h − (2p−1) t)² + 4 p (1−p) t², t = 1/(2β); the last term does not
    depend on the policy and is left out. Give h as the difference of *mean* token log-ratios
    (``lengths_2B`` in `log_ratio_difference`), as TRL does after asking the authors.

    Return the loss per pair, in squared nats per token.

    Args:
        h_B: Length-normalised; see `rlaif.training.losses`.
        p_B: P(chosen is better), in [0, 1].
        beta: > 0; the target margin is (2p−1)/(2β), so smaller means further from the reference.
    """
    return (h_B - (2.0 * p_B - 1.0) / (2.0 * beta)) ** 2


def regression_loss(h_B: Tensor, p_B: Tensor, *, beta: float, clip: float) -> Tensor:
    """Clipped logit regression: make the implied reward difference equal to the judge's log-odds.

        L = (βh − clip(logit p, −c, c))²

    Source: REBEL, Gao et al. 2024 (arXiv 2404.16767), and reward distillation, Fisch et al. 2024
    (arXiv 2405.19316): (βh − (r₁ − r₂))², with the reward difference taken from the judge.
    Our deviation: r₁ − r₂ = logit p, the Bradley–Terry reward difference that p implies, clipped
    because a judge's 0.9999 is not worth a margin of 9 nats (and p = 1 would be infinite).

    Return the loss per pair, in squared nats.

    Args:
        h_B: See `rlaif.training.losses`.
        p_B: P(chosen is better), in [0, 1].
        beta: As in DPO.
        clip: Largest target in absolute value, > 0.
    """
    return (beta * h_B - logit(p_B).clamp(-clip, clip)) ** 2


def chosen_nll(logprobs_2B: Tensor, lengths_2B: Tensor) -> Tensor:
    """Chosen-NLL: keep the chosen responses likely while the margin grows.

        L_NLL = − Σ_i log π(y_c,i) / Σ_i n_i

    Source: the NLL term of RPO / iterative reasoning preference optimisation, Pang et al. 2024
    (arXiv 2404.19733), eq. 1; DPO alone may lower log π(y_c) as long as log π(y_r) falls faster.
    Our deviation: one mean over all chosen tokens of the batch (as TRL's ``sft`` loss), not a
    mean of per-response means, so that long responses are not underweighted token by token.

    Return the scalar mean negative log-likelihood, nats per chosen token.

    Args:
        logprobs_2B: Summed response log-probabilities under the policy; [chosen; rejected].
        lengths_2B: Response tokens.
    """
    chosen_B, _ = logprobs_2B.chunk(2)
    lengths_B, _ = lengths_2B.chunk(2)
    return -chosen_B.sum() / lengths_B.sum().clamp(min=1)


def soft_reward_loss(
    chosen_B: Tensor,
    rejected_B: Tensor,
    p_B: Tensor,
    *,
    margin_B: Tensor | float = 0.0,
    centring: float = 0.0,
) -> Tensor:
    """Reward-model loss: soft Bradley–Terry on the difference of two scores.

        L = −p log σ(d) − (1−p) log σ(−d) + c (s_c + s_r)²,    d = s_c − s_r − m

    Source: the soft cross-entropy of Constitutional AI (arXiv 2212.08073) and RLAIF (2309.00267);
    margin m: Llama 2 (2307.09288), eq. 2; centring c: Eisenstein et al. 2023 (2312.09244).
    Our deviation: with a margin, −log σ(d) + (1−p) d keeps the soft label around the shifted
    difference. Scores are only defined up to a constant per prompt; centring pins it near 0.

    Return the loss per pair.

    Args:
        chosen_B: Scores of the chosen responses, any real number.
        rejected_B: Scores of the rejected responses.
        p_B: P(chosen is better), in [0, 1].
        margin_B: By how much the chosen score should exceed the rejected one, ≥ 0.
        centring: Weight c ≥ 0 of the pull of s_c + s_r to 0; 0.01 is usual.
    """
    d_B = chosen_B - rejected_B - margin_B
    losses_B = -logsigmoid(d_B) + (1.0 - p_B) * d_B
    if centring:
        losses_B = losses_B + centring * (chosen_B + rejected_B) ** 2
    return losses_B
