"""What a rollout was like, in numbers: means over responses or over valid tokens, never padding.

KL is in nats per sequence, averaged over responses; entropy in nats per token.
"""

import torch
from torch import Tensor

from rlaif.training.ppo.distributed import Distributed
from rlaif.training.ppo.experience import Experience, ModelOutputs, Rollout

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
    drawn: Rollout,
    scores: list[float | None],
    measured: ModelOutputs,
    experience: Experience,
    world: Distributed,
) -> dict[str, float]:
    """Return the metrics of a rollout, over all processes. What matters most comes first."""
    kl_BT, mask_BT = measured.kl_BT, experience.mask_BT
    known = torch.tensor([score for score in scores if score is not None], dtype=torch.float64)
    sums = {
        "responses": len(drawn),
        "scored": len(known),
        "score": known.sum(),
        "score²": known.square().sum(),
        "kl": kl_BT.double().sum(),
        "tokens": sum(len(sampled.tokens) for sampled in drawn.sampled),
        "ended": sum(sampled.ended for sampled in drawn.sampled),
        "entropy": sum(sum(sampled.entropies) for sampled in drawn.sampled),
        "entropies": sum(len(sampled.entropies) for sampled in drawn.sampled),
        "gap": measured.gap[0],
        "compared": measured.gap[1],
        "valid": mask_BT.sum(),
        **_value_sums(experience),
        **_importance_sums(experience),
    }
    stacked = torch.stack([torch.as_tensor(x, dtype=torch.float64) for x in sums.values()])
    total = dict(zip(sums, world.add_up(stacked).tolist(), strict=True))
    responses, tokens = total["responses"], total["tokens"]
    mean = total["score"] / total["scored"]
    found = {
        "score/mean": mean,
        "objective/kl": total["kl"] / responses,
        "response/tokens": tokens / responses,
        "response/ended": total["ended"] / responses,
        "score/deviation": max(total["score²"] / total["scored"] - mean**2, 0.0) ** 0.5,
        "score/unscored": 1.0 - total["scored"] / responses,
        "value/explained_variance": _explained(total),
    }
    if total["entropies"]:  # not known where vLLM draws
        found["objective/entropy"] = total["entropy"] / total["entropies"]
    if total["compared"]:
        found["objective/sampling_gap"] = total["gap"] / total["compared"]
    if experience.weights_BT is not None:
        found["objective/importance"] = total["importance"] / total["valid"]
    return found


def _value_sums(experience: Experience) -> dict[str, Tensor]:
    returns_N = experience.returns_BT[experience.mask_BT].double()
    errors_N = returns_N - experience.old_values_BT[experience.mask_BT].double()
    return {
        "return": returns_N.sum(),
        "return²": returns_N.square().sum(),
        "error": errors_N.sum(),
        "error²": errors_N.square().sum(),
    }


def _importance_sums(experience: Experience) -> dict[str, Tensor]:
    if experience.weights_BT is None:
        return {}
    return {"importance": experience.weights_BT[experience.mask_BT].double().sum()}


def _explained(total: dict[str, float]) -> float:
    """Return 1 − Var(R − V) / Var(R); not a number where all returns are equal."""
    n = total["valid"]
    spread = total["return²"] / n - (total["return"] / n) ** 2
    left = total["error²"] / n - (total["error"] / n) ** 2
    return 1.0 - left / spread if spread > 1e-12 else float("nan")
