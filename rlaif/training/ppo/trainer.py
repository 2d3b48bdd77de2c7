"""The loop of PPO for text: ask, score, measure, assess, update; rollout after rollout.

Algorithm (Ziegler et al. 2019, 1909.08593; Ouyang et al. 2022, 2203.02155), one method a line:

    draw      responses from the policy, at one temperature and from nothing but its distribution
    score     conversations and texts, by any callable; None leaves a response out
    measure   log-probabilities (policy, reference) and values, with the training forward pass
    assess    r_t = −β k1_t + 1[t = last]·score → GAE → advantages whitened over the rollout
    update    epochs × minibatches of the clipped objective, critic alone during its warm-up
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlaif.config.ppo import PpoRolloutSettings, RewardSettings
from rlaif.errors import RlaifError, TrainingError
from rlaif.training.data.prompts import PromptSet, ResponseRequest
from rlaif.training.harness.progress import Sample
from rlaif.training.harness.stopping import Diverged
from rlaif.training.ppo.actor_critic import ActorCritic
from rlaif.training.ppo.advantages import shape_scores
from rlaif.training.ppo.checkpoint import State
from rlaif.training.ppo.distributed import Distributed
from rlaif.training.ppo.experience import (
    ModelOutputs,
    Rollout,
    assess,
    describe,
    measure,
    with_importance,
)
from rlaif.training.ppo.sampling import Sampled, sample_responses
from rlaif.training.ppo.update import Updater
from rlaif.training.ppo.vllm import VllmRollouts
from rlaif.training.scorers import Scorer, collect_scores

Finished = tuple[State, dict[str, float], list[Sample]]
"""A finished rollout: where the training stands, what was measured, prompts and responses."""


@dataclass(frozen=True, slots=True)
class Models:
    """What a training works with."""

    actor_critic: ActorCritic
    tokenizer: Any
    """The policy's, with a chat template."""

    prompts: PromptSet
    stop_ids: tuple[int, ...]
    pad_id: int


class PpoTrainer:
    """Runs rollouts from a given state on.

    Args:
        models: Policy, critic, reference, and what they read.
        updater: Takes the optimiser steps.
        scorer: Any scorer.
        rollouts: How responses are drawn.
        rewards: What becomes of their scores.
        vllm: Draws in place of transformers.
        world: The processes.
    """

    def __init__(
        self,
        models: Models,
        updater: Updater,
        *,
        scorer: Scorer,
        rollouts: PpoRolloutSettings,
        rewards: RewardSettings,
        vllm: VllmRollouts | None,
        world: Distributed,
    ) -> None:
        self._models = models.actor_critic
        self._updater = updater
        self._prompts = models.prompts
        self._tokenizer = models.tokenizer
        self._stop_ids = models.stop_ids
        self._pad_id = models.pad_id
        self._scorer = scorer
        self._rollouts = rollouts
        self._rewards = rewards
        self._vllm = vllm
        self._world = world
        self.updating = False
        """True while weights change: an interruption now leaves an incomplete update."""

    @property
    def rollouts(self) -> int:
        """How many the whole training has."""
        return self._rollouts.rollouts

    def run(self, state: State) -> Iterator[Finished]:
        """Train to the last rollout, yielding each one that is finished.

        Raises:
            TrainingError: The scorer failed, or nothing of a rollout could be scored.
            Diverged: The models' outputs are NaN or infinite.
        """
        while state.rollout < self._rollouts.rollouts:
            finished = self.step(state)
            state = finished[0]
            yield finished

    def step(self, state: State) -> Finished:
        """Make one rollout and learn from it."""
        size, world, clock = self._rollouts.rollout_size, self._world, _Clock()
        requests = self._ask(state.rollout)
        drawn = self._draw(requests)
        texts = [self._text(sampled) for sampled in drawn.sampled]
        clock.lap("seconds/draw")
        scores = self._score(requests, texts)
        known = [score for score in scores if score is not None]
        moments = state.moments.after(known, world.add_up)
        clock.lap("seconds/score")
        measured = measure(
            self._models,
            drawn,
            most_tokens=self._updater.micro_tokens,
            device=world.device,
        )
        self._check_numbers(measured, state.rollout)
        clock.lap("seconds/measure")
        experience = assess(
            drawn,
            measured,
            shape_scores(
                scores,
                [sampled.ended for sampled in drawn.sampled],
                moments=moments,
                settings=self._rewards,
            ),
            beta=state.kl.beta,
            settings=self._rewards,
            add_up=world.add_up,
        )
        if self._vllm is not None:
            experience = with_importance(experience, self._vllm.importance)
        measures = describe(drawn, scores, measured, experience, world)
        measures["objective/beta"] = state.kl.beta
        self.updating = True
        learned = self._updater.run(experience, rollout=state.rollout)
        self.updating = False
        clock.lap("seconds/update")
        unscored = round(measures["score/unscored"] * size)
        return (
            replace(
                state,
                kl=state.kl.after(measures["objective/kl"]),
                moments=moments,
                rollout=state.rollout + 1,
                responses=state.responses + size,
                unscored=state.unscored + unscored,
            ),
            measures | learned | clock.laps,
            [Sample(r.prompt.text, text) for r, text in zip(requests, texts, strict=True)],
        )

    def _check_numbers(self, measured: ModelOutputs, rollout: int) -> None:
        tables = (measured.logprobs_BT, measured.values_BT)
        if self._world.agree(not all(bool(table.isfinite().all()) for table in tables)):
            raise Diverged(
                f"rollout {rollout + 1}: log-probabilities or values are NaN or infinite",
                hint="lower learning_rate or critic_learning_rate; the last checkpoint is kept",
            )

    def _ask(self, rollout: int) -> list[ResponseRequest]:
        """Return this process's part of the requests of a rollout."""
        settings = self._rollouts
        requests = self._prompts.ask(
            rollout,
            size=settings.rollout_size,
            per_prompt=settings.responses_per_prompt,
            seed=settings.seed,
        )
        return [request for i, request in enumerate(requests) if self._world.owns(i)]

    def _draw(self, requests: Sequence[ResponseRequest]) -> Rollout:
        if self._vllm is not None:
            with self._models.sampled():
                tokens = [r.tokens for r in requests]
                drawn = self._vllm.draw(tokens, [r.seed for r in requests])
                return Rollout(tokens, drawn, self._pad_id)
        # Prompts of similar length together: less padding, and nothing depends on the order.
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].tokens))
        step = self._rollouts.generation_batch or max(len(requests), 1)
        sampled: dict[int, Sampled] = {}
        with self._models.sampled() as policy:
            for start in range(0, len(order), step):
                rows = order[start : start + step]
                drawn = sample_responses(
                    policy,
                    [requests[i].tokens for i in rows],
                    [requests[i].seed for i in rows],
                    stop_ids=self._stop_ids,
                    pad_id=self._pad_id,
                    max_new_tokens=self._rollouts.max_new_tokens,
                    temperature=self._rollouts.temperature,
                )
                sampled.update(zip(rows, drawn, strict=True))
        in_order = [sampled[i] for i in range(len(requests))]
        return Rollout([r.tokens for r in requests], in_order, self._pad_id)

    def _text(self, sampled: Sampled) -> str:
        tokens = sampled.tokens[:-1] if sampled.ended else sampled.tokens
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _score(self, requests: Sequence[ResponseRequest], texts: list[str]) -> list[float | None]:
        columns: dict[str, list[Any]] = {
            "prompt_id": [r.prompt.id for r in requests],
            "tags": [r.prompt.tags for r in requests],
        }
        failed: RlaifError | None = None
        scores: list[float | None] = []
        try:
            scores = collect_scores(
                self._scorer,
                [r.messages for r in requests],
                texts,
                columns,
                timeout=self._rollouts.scorer_timeout,
            )
        except RlaifError as problem:
            failed = problem
        if self._world.agree(failed is not None):  # or the others would wait for this one
            raise failed or TrainingError("the scorer failed in another process")
        if not self._world.agree(any(score is not None for score in scores)):
            raise TrainingError(
                f"none of the {self._rollouts.rollout_size} responses of this rollout was scored",
                hint="check why the scorer returns None",
            )
        return scores


class _Clock:
    """Seconds since the last lap, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = now - self._since
        self._since = now
