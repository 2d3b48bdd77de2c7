"""The update: epochs × minibatches × micro-batches of the clipped objective.

A minibatch is a random part of the rollout and gets one step of each optimiser. It is computed in
micro-batches that fit in memory; each token's share of the loss is that in the whole minibatch, of
all processes, so neither the split nor the number of processes changes the step.
Policy and critic take turns, so that only one of them has gradients in memory at a time.

Shapes: B responses, T token positions, N tokens of one micro-batch, K values of each.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rlaif.config.ppo import Aggregate, ObjectiveSettings, PpoRolloutSettings, UpdateSettings
from rlaif.records import content_seed
from rlaif.training.forward.sequences import Sequences, split_by_tokens
from rlaif.training.models import device_kind
from rlaif.training.ppo.actor_critic import ActorCritic
from rlaif.training.ppo.distributed import Distributed
from rlaif.training.ppo.experience import Experience
from rlaif.training.ppo.losses import (
    compute_k3,
    compute_policy_loss,
    compute_ratio,
    compute_value_loss,
)
from rlaif.training.ppo.optimiser import Optimiser


@dataclass(frozen=True, slots=True)
class _Minibatch:
    step: int
    """Within this rollout, from 0."""

    rows: list[int]
    """Rows of this process."""

    tokens: float
    """Valid tokens over all processes."""

    responses: float
    """Scored responses over all processes."""


_Pick = Callable[[Tensor], Tensor]
"""Takes this micro-batch's valid tokens out of a table of the rollout: BT → N."""

_POLICY = ("loss", "approx_kl", "ratio", "ratio_distance", "clip_share", "entropy")
_VALUE = ("loss", "clip_share")


class Updater:
    """Trains policy and critic on one rollout after another.

    Args:
        models: Policy and critic.
        policy: Optimiser of the policy.
        critic: Optimiser of the critic.
        objective: Losses and stopping.
        settings: Minibatches, micro-batches, and for how long the critic learns alone.
        rollouts: Of what size a rollout is, and the seed.
        world: The processes.
    """

    def __init__(
        self,
        models: ActorCritic,
        *,
        policy: Optimiser,
        critic: Optimiser,
        objective: ObjectiveSettings,
        settings: UpdateSettings,
        rollouts: PpoRolloutSettings,
        world: Distributed,
    ) -> None:
        self.policy = policy
        self.critic = critic
        self._models = models
        self._objective = objective
        self._settings = settings
        self._rollouts = rollouts
        self._steps = settings.steps(rollouts.rollout_size)
        self.micro_tokens = settings.micro_tokens or (8192 if device_kind() == "cuda" else 1024)
        """Padded tokens of one forward and backward pass: as set, or what suits the device.
        Activations of a model of 135M parameters take about 2 MB a token."""

        self._world = world

    def run(self, experience: Experience, *, rollout: int) -> dict[str, float]:
        """Train on one rollout and return what was measured, averaged over its minibatches.

        Args:
            experience: The rollout.
            rollout: Its number, from 0. In the first ones, the critic's warm-up, the policy stands
                still; its learning-rate schedule starts afterwards.
        """
        warmup = self._settings.critic_warmup
        resting = rollout < warmup
        means: dict[str, list[float]] = defaultdict(list)
        for minibatch in self._minibatches(experience, rollout):
            if not resting:
                step = (rollout - warmup) * self._steps + minibatch.step
                resting = self._step_policy(experience, minibatch, step, means)
            step = rollout * self._steps + minibatch.step
            self._step_critic(experience, minibatch, step, means)
        return {name: sum(values) / len(values) for name, values in means.items()}

    def _minibatches(self, experience: Experience, rollout: int) -> Iterator[_Minibatch]:
        size, world = self._settings.minibatch_size, self._world
        scored = set(experience.rows())
        lengths_B = experience.mask_BT.sum(dim=1)
        step = 0
        for epoch in range(self._settings.epochs):
            generator = torch.Generator()
            generator.manual_seed(content_seed(self._rollouts.seed, "minibatches", rollout, epoch))
            order = torch.randperm(self._rollouts.rollout_size, generator=generator).tolist()
            for start in range(0, len(order), size):
                mine = [i // world.size for i in order[start : start + size] if world.owns(i)]
                rows = [row for row in mine if row in scored]
                mine_2 = torch.tensor([float(lengths_B[rows].sum()), float(len(rows))]).double()
                tokens, responses = world.add_up(mine_2).tolist()
                if tokens > 0:  # else nothing in it was scored, in any process
                    yield _Minibatch(step, rows, tokens, responses)
                step += 1

    def _step_policy(
        self,
        experience: Experience,
        minibatch: _Minibatch,
        step: int,
        means: dict[str, list[float]],
    ) -> bool:
        """Take one step; return whether the policy has gone far enough for this rollout."""
        share_BT = _shares(self._objective.aggregate, experience, minibatch)
        means_K = self._backward(experience, minibatch, share_BT, self._policy_values, len(_POLICY))
        measured = dict(zip(_POLICY, means_K, strict=True))
        if self._objective.entropy_bonus == 0.0:
            del measured["entropy"]  # not computed here; the rollout's own is reported
        limit = self._objective.max_kl
        enough = limit is not None and measured["approx_kl"] > limit
        broken = not measured["ratio"] <= self._objective.max_ratio  # also when it is NaN
        measured["skipped"] = float(enough or broken)
        if enough or broken:
            self.policy.clear()
        else:
            measured["grad_norm"], measured["learning_rate"] = self.policy.step(step, self._world)
        for name, value in measured.items():
            means[f"policy/{name}"].append(value)
        return enough

    def _step_critic(
        self,
        experience: Experience,
        minibatch: _Minibatch,
        step: int,
        means: dict[str, list[float]],
    ) -> None:
        share_BT = _shares("token-mean", experience, minibatch)
        means_K = self._backward(experience, minibatch, share_BT, self._critic_values, len(_VALUE))
        measured = dict(zip(_VALUE, means_K, strict=True))
        measured["grad_norm"], measured["learning_rate"] = self.critic.step(step, self._world)
        for name, value in measured.items():
            means[f"value/{name}"].append(value)

    def _backward(
        self,
        experience: Experience,
        minibatch: _Minibatch,
        share_BT: Tensor,
        compute_values: Callable[[Sequences, _Pick, Experience], Tensor],
        width: int,
    ) -> list[float]:
        """Accumulate a minibatch's gradient; return the loss and the token means of the others.

        The first value of a token is its loss and counts by its share, the others all alike.
        """
        lengths = experience.drawn.lengths()
        totals = torch.zeros(width, dtype=torch.float64)
        groups = split_by_tokens([lengths[row] for row in minibatch.rows], self.micro_tokens)
        for group in groups:
            rows = [minibatch.rows[i] for i in group]
            mask_BT = experience.mask_BT[rows]
            batch = experience.drawn.lay_out(rows, self._world.device)

            def pick(x_BT: Tensor, rows: list[int] = rows, mask_BT: Tensor = mask_BT) -> Tensor:
                return x_BT[rows][mask_BT].to(self._world.device)

            values_KN = compute_values(batch, pick, experience)
            loss = (values_KN[0] * pick(share_BT)).sum()
            torch.autograd.backward(loss)
            totals[0] += loss.detach().double().cpu()
            totals[1:] += values_KN[1:].detach().double().sum(dim=1).cpu() / minibatch.tokens
        return [float(total) for total in self._world.add_up(totals)]

    def _policy_values(self, batch: Sequences, pick: _Pick, experience: Experience) -> Tensor:
        objective = self._objective
        bonus = objective.entropy_bonus
        logprobs_N, entropy_N = self._models.logprobs(batch, entropy=bonus > 0)
        old_N = pick(experience.old_logprobs_BT)
        ratio_N = compute_ratio(logprobs_N, old_N)
        loss_N, clipped_N = compute_policy_loss(
            ratio_N,
            pick(experience.advantages_BT),
            clip_low=objective.clip_low,
            clip_high=objective.clip_high,
            dual_clip=objective.dual_clip,
        )
        if experience.weights_BT is not None:
            loss_N = loss_N * pick(experience.weights_BT)
        if entropy_N is None:
            entropy_N = torch.zeros_like(loss_N)
        return torch.stack(
            [
                loss_N - bonus * entropy_N,
                compute_k3(old_N, logprobs_N),
                ratio_N,
                (ratio_N - 1.0).abs(),
                clipped_N.float(),
                entropy_N,
            ]
        )

    def _critic_values(self, batch: Sequences, pick: _Pick, experience: Experience) -> Tensor:
        loss_N, clipped_N = compute_value_loss(
            self._models.values(batch),
            pick(experience.old_values_BT),
            pick(experience.returns_BT),
            clip=self._objective.value_clip,
        )
        return torch.stack([loss_N, clipped_N.float()])


def _shares(aggregate: Aggregate, experience: Experience, minibatch: _Minibatch) -> Tensor:
    """Return how much each token's loss counts, over the minibatch of all processes."""
    lengths_B1 = experience.mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
    each: dict[Aggregate, Tensor] = {
        "token-mean": torch.full(lengths_B1.shape, 1.0 / minibatch.tokens),
        "sequence-mean": 1.0 / (minibatch.responses * lengths_B1),
        "sequence-sum": torch.full(lengths_B1.shape, 1.0 / minibatch.responses),
    }
    return each[aggregate].expand(experience.mask_BT.shape)
