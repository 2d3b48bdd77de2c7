"""One rollout: its responses, what every token was worth, and its metrics.

Shapes: B responses of this process, T token positions (right-padded).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlaif.config.ppo import RewardSettings
from rlaif.training.forward.sequences import Sequences, Tokens, lay_out, split_by_tokens
from rlaif.training.ppo.actor_critic import ActorCritic
from rlaif.training.ppo.advantages import AddUp, compute_gae, compute_rewards, keep, whiten
from rlaif.training.ppo.distributed import Distributed
from rlaif.training.ppo.losses import compute_importance, compute_k1
from rlaif.training.ppo.sampling import Sampled

_SAME = 1e-5
"""Largest difference of log-probabilities that counts as rounding."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Prompts and the responses drawn for them, as token ids."""

    prompts: Sequence[Tokens]
    sampled: Sequence[Sampled]
    pad_id: int = 0
    """Any id of the vocabulary; what it is changes nothing."""

    @property
    def responses(self) -> list[list[int]]:
        """At least one token each; a stop token counts."""
        return [sampled.tokens for sampled in self.sampled]

    def __len__(self) -> int:
        return len(self.sampled)

    def lengths(self) -> list[int]:
        """Tokens of prompt and response together."""
        pairs = zip(self.prompts, self.sampled, strict=True)
        return [len(prompt) + len(sampled.tokens) for prompt, sampled in pairs]

    def lay_out(self, rows: Sequence[int], device: torch.device) -> Sequences:
        """Return some rows as one padded batch."""
        prompts = [self.prompts[i] for i in rows]
        responses = [self.sampled[i].tokens for i in rows]
        return lay_out(prompts, responses, pad_id=self.pad_id, device=device)


@dataclass(frozen=True, slots=True)
class ModelOutputs:
    """What the models say about the tokens of a rollout, before any update."""

    logprobs_BT: Tensor
    """As the training forward pass gives them, so that ratios start at 1."""

    ref_logprobs_BT: Tensor | None
    values_BT: Tensor
    gap: tuple[float, int]
    """Sum of |log-probability when drawn − in the training forward pass|, over so many tokens."""

    @property
    def kl_BT(self) -> Tensor:  # noqa: N802 - the axes of a tensor are capitals
        """k1 to the reference per token; zero when there is none."""
        if self.ref_logprobs_BT is None:
            return torch.zeros_like(self.logprobs_BT)
        return compute_k1(self.logprobs_BT, self.ref_logprobs_BT)


@dataclass(frozen=True, slots=True)
class Experience:
    """A rollout ready for the update. Rows without a score are masked out."""

    drawn: Rollout
    mask_BT: Tensor
    old_logprobs_BT: Tensor
    old_values_BT: Tensor
    advantages_BT: Tensor
    """Whitened over the valid tokens of all processes."""

    returns_BT: Tensor
    weights_BT: Tensor | None = None
    """Importance weights, where tokens were drawn elsewhere; see `compute_importance`."""

    def rows(self) -> list[int]:
        """Rows that are trained on."""
        return self.mask_BT.any(dim=1).nonzero().flatten().tolist()


@torch.no_grad()
def measure(
    models: ActorCritic, drawn: Rollout, *, most_tokens: int, device: torch.device
) -> ModelOutputs:
    """Run policy, reference and value model over a rollout, ``most_tokens`` padded at a time.

    The policy's log-probabilities were known when the tokens were drawn. They are computed again,
    as generation may run in another precision or padding than training; but where the first batch
    shows that both agree to 1e-5 (in fp32 they do, to 1e-7), the rest are taken as drawn.
    """
    longest = max((len(sampled.tokens) for sampled in drawn.sampled), default=1)
    logprobs_BT, ref_BT, values_BT = torch.zeros(3, len(drawn), longest)
    has_reference, agree, gap, compared = True, False, 0.0, 0
    for group in split_by_tokens(drawn.lengths(), most_tokens):
        batch = drawn.lay_out(group, device)
        places = _places(drawn, group)
        drawn_N = torch.tensor([x for row in group for x in drawn.sampled[row].logprobs])
        if not agree:
            logprobs_N = models.logprobs(batch)[0].cpu()
            if len(drawn_N) == len(logprobs_N):
                gaps_N = (drawn_N - logprobs_N).abs()
                gap, compared = gap + float(gaps_N.sum()), compared + len(gaps_N)
                agree = bool(gaps_N.max() <= _SAME)
        else:
            logprobs_N = drawn_N
        logprobs_BT[places] = logprobs_N
        ref_N = models.ref_logprobs(batch)
        has_reference = ref_N is not None
        if ref_N is not None:
            ref_BT[places] = ref_N.cpu()
        values_BT[places] = models.values(batch).cpu()
    return ModelOutputs(logprobs_BT, ref_BT if has_reference else None, values_BT, (gap, compared))


def assess(
    drawn: Rollout,
    measured: ModelOutputs,
    scores: Sequence[float | None],
    *,
    beta: float,
    settings: RewardSettings,
    add_up: AddUp = keep,
) -> Experience:
    """Turn scores and log-probabilities into advantages and returns.

    Args:
        drawn: The rollout.
        measured: From `measure`.
        scores: Shaped scores; None takes the row out of the update.
        beta: Reward lost per nat of KL.
        settings: γ, both λ, and whether rewards are scaled.
        add_up: Sums over processes.
    """
    lengths = [len(sampled.tokens) for sampled in drawn.sampled]
    columns_T = torch.arange(measured.values_BT.shape[1])
    scored_B = torch.tensor([score is not None for score in scores], dtype=torch.bool)
    mask_BT = (columns_T < torch.tensor(lengths)[:, None]) & scored_B[:, None]
    rewards_BT = compute_rewards(measured.kl_BT, lengths, scores, beta=beta)
    if settings.whiten_rewards:
        rewards_BT = whiten(rewards_BT, mask_BT, shift_mean=False, add_up=add_up)
    values_BT, gamma = measured.values_BT, settings.gamma
    advantages_BT, returns_BT = compute_gae(
        rewards_BT, values_BT, mask_BT, gamma=gamma, lam=settings.lam
    )
    if settings.critic_lam not in (None, settings.lam):
        _, returns_BT = compute_gae(
            rewards_BT, values_BT, mask_BT, gamma=gamma, lam=settings.critic_lam
        )
    return Experience(
        drawn=drawn,
        mask_BT=mask_BT,
        old_logprobs_BT=measured.logprobs_BT,
        old_values_BT=values_BT,
        advantages_BT=whiten(advantages_BT, mask_BT, add_up=add_up),
        returns_BT=returns_BT,
    )


def with_importance(experience: Experience, bounds: tuple[float, float]) -> Experience:
    """Return a rollout that was drawn elsewhere, with weights that correct for it."""
    known = [sampled.logprobs for sampled in experience.drawn.sampled]
    weights_BT = compute_importance(experience.old_logprobs_BT, known, bounds)
    return replace(experience, weights_BT=weights_BT)


def _places(drawn: Rollout, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Row and column of every token, in the flat order of `lay_out`."""
    lengths = [len(drawn.sampled[row].tokens) for row in rows]
    spread = [row for row, length in zip(rows, lengths, strict=True) for _ in range(length)]
    columns = [t for length in lengths for t in range(length)]
    return torch.tensor(spread), torch.tensor(columns)


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
    metrics = {
        "score/mean": mean,
        "objective/kl": total["kl"] / responses,
        "response/tokens": tokens / responses,
        "response/ended": total["ended"] / responses,
        "score/deviation": max(total["score²"] / total["scored"] - mean**2, 0.0) ** 0.5,
        "score/unscored": 1.0 - total["scored"] / responses,
        "value/explained_variance": _explained(total),
    }
    if total["entropies"]:  # not known where vLLM draws
        metrics["objective/entropy"] = total["entropy"] / total["entropies"]
    if total["compared"]:
        metrics["objective/sampling_gap"] = total["gap"] / total["compared"]
    if experience.weights_BT is not None:
        metrics["objective/importance"] = total["importance"] / total["valid"]
    return metrics


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
    """Return 1 − Var(R − V) / Var(R); NaN where all returns are equal."""
    n = total["valid"]
    spread = total["return²"] / n - (total["return"] / n) ** 2
    left = total["error²"] / n - (total["error"] / n) ** 2
    return 1.0 - left / spread if spread > 1e-12 else float("nan")
