"""What a rollout was like, in numbers: means over responses or over valid tokens, never padding.

KL is in nats per sequence, averaged over responses; entropy in nats per token.
"""

import torch
from torch import Tensor

from rlaif.training.ppo.experience import Drawn, Experience, Measured
from rlaif.training.ppo.sampling import Sampled
from rlaif.training.ppo.world import World

CURVES = (
    "score/mean",
    "objective/kl",
    "objective/beta",
    "response/tokens",
    "response/ended",
    "objective/entropy",
    "policy/approx_kl",
    "policy/clip_share",
    "value/explained_variance",
)
"""What the picture of a training shows."""


def describe(
    drawn: Drawn,
    generated: list[Sampled],
    scores: list[float | None],
    measured: Measured,
    experience: Experience,
    world: World,
) -> dict[str, float]:
    """Return the metrics of a rollout, over all processes. What matters most comes first."""
    kl_BT, mask_BT = measured.kl_BT, experience.mask_BT
    known = torch.tensor([score for score in scores if score is not None], dtype=torch.float64)
    lengths = [len(response) for response in drawn.responses]
    sums = {
        "responses": len(drawn),
        "scored": len(known),
        "score": known.sum(),
        "score²": known.square().sum(),
        "kl": kl_BT.double().sum(),
        "tokens": sum(lengths),
        "ended": sum(drawn.ended),
        "entropy": measured.entropy_BT.double().sum(),
        "gap": _sampling_gap(generated, measured),
        "valid": mask_BT.sum(),
        **_value_sums(experience),
    }
    stacked = torch.stack([torch.as_tensor(x, dtype=torch.float64) for x in sums.values()])
    total = dict(zip(sums, world.add_up(stacked).tolist(), strict=True))
    responses, tokens = total["responses"], total["tokens"]
    mean = total["score"] / total["scored"]
    return {
        "score/mean": mean,
        "objective/kl": total["kl"] / responses,
        "response/tokens": tokens / responses,
        "response/ended": total["ended"] / responses,
        "score/deviation": max(total["score²"] / total["scored"] - mean**2, 0.0) ** 0.5,
        "score/unscored": 1.0 - total["scored"] / responses,
        "objective/entropy": total["entropy"] / tokens,
        "objective/sampling_gap": total["gap"] / tokens,
        "value/explained_variance": _explained(total),
    }


def _sampling_gap(generated: list[Sampled], measured: Measured) -> float:
    """Sum of |log-probability when drawn − in the training forward pass|: 0 but for rounding."""
    gap = 0.0
    for row, sampled in enumerate(generated):
        drawn_T = torch.tensor(sampled.logprobs)
        gap += float((drawn_T - measured.logprobs_BT[row, : len(drawn_T)]).abs().sum())
    return gap


def _value_sums(experience: Experience) -> dict[str, Tensor]:
    returns_N = experience.returns_BT[experience.mask_BT].double()
    errors_N = returns_N - experience.old_values_BT[experience.mask_BT].double()
    return {
        "return": returns_N.sum(),
        "return²": returns_N.square().sum(),
        "error": errors_N.sum(),
        "error²": errors_N.square().sum(),
    }


def _explained(total: dict[str, float]) -> float:
    """Return 1 − Var(R − V) / Var(R); not a number where all returns are equal."""
    n = total["valid"]
    spread = total["return²"] / n - (total["return"] / n) ** 2
    left = total["error²"] / n - (total["error"] / n) ** 2
    return 1.0 - left / spread if spread > 1e-12 else float("nan")
