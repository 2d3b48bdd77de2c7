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

from rlaif.errors import RlaifError, TrainingError
from rlaif.training.harness.progress import Sample
from rlaif.training.ppo.actor_critic import ActorCritic
from rlaif.training.ppo.advantages import shape_scores
from rlaif.training.ppo.checkpoint import State
from rlaif.training.ppo.describe import describe
from rlaif.training.ppo.experience import (
    Discount,
    Drawn,
    Measured,
    assess,
    measure,
    with_importance,
)
from rlaif.training.ppo.optimiser import Diverged
from rlaif.training.ppo.prompts import Asked, PromptSet
from rlaif.training.ppo.sampling import Sampled, sample_responses
from rlaif.training.ppo.update import Updater
from rlaif.training.ppo.vllm import VllmRollouts
from rlaif.training.ppo.world import World
from rlaif.training.scorers import Scorer, collect_scores

Finished = tuple[State, dict[str, float], list[Sample]]
"""A finished rollout: where the training stands, what was measured, prompts and responses."""


@dataclass(frozen=True, slots=True)
class Practice:
    """How rollouts are made and rewarded."""

    rollouts: int
    size: int
    """Responses per rollout, over all processes."""

    per_prompt: int
    max_new_tokens: int
    temperature: float
    stop_ids: tuple[int, ...]
    pad_id: int
    seed: int
    critic_warmup: int
    discount: Discount
    generation_batch: int | None = None
    micro_tokens: int = 2048
    normalise_scores: bool = True
    score_clip: float = 5.0
    missing_end_penalty: float = 1.0
    whiten_rewards: bool = False
    scorer_timeout: float | None = None
    vllm: VllmRollouts | None = None
    """Draws in place of transformers."""

    importance: tuple[float, float] = (0.5, 5.0)
    """Bounds of importance weights, where vLLM draws."""


class PpoTrainer:
    """Runs rollouts from a given state on.

    Args:
        models: Policy, critic, reference.
        updater: Takes the optimiser steps.
        prompts: What is asked.
        tokenizer: The policy's.
        scorer: Any scorer.
        practice: How rollouts are made.
        world: The processes.
    """

    def __init__(
        self,
        models: ActorCritic,
        updater: Updater,
        *,
        prompts: PromptSet,
        tokenizer: Any,
        scorer: Scorer,
        practice: Practice,
        world: World,
    ) -> None:
        self._models = models
        self._updater = updater
        self._prompts = prompts
        self._tokenizer = tokenizer
        self._scorer = scorer
        self._practice = practice
        self._world = world
        self.updating = False
        """True while weights change: what is interrupted now is no longer a whole rollout."""

    def run(self, state: State) -> Iterator[Finished]:
        """Train to the last rollout, yielding each one that is finished.

        Raises:
            TrainingError: The scorer failed, or nothing of a rollout could be scored.
            Diverged: The models' outputs are no numbers any more.
        """
        while state.rollout < self._practice.rollouts:
            finished = self.step(state)
            state = finished[0]
            yield finished

    def step(self, state: State) -> Finished:
        """Make one rollout and learn from it."""
        practice, world, clock = self._practice, self._world, _Clock()
        asked = self._ask(state.rollout)
        drawn = self._draw(asked)
        texts = [self._text(sampled) for sampled in drawn.sampled]
        clock.lap("seconds/draw")
        scores = self._score(asked, texts)
        known = [score for score in scores if score is not None]
        moments = state.moments.after(known, world.add_up)
        clock.lap("seconds/score")
        measured = measure(
            self._models,
            drawn,
            pad_id=practice.pad_id,
            most_tokens=practice.micro_tokens,
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
                moments=moments if practice.normalise_scores else None,
                clip=practice.score_clip,
                missing_end_penalty=practice.missing_end_penalty,
            ),
            beta=state.kl.beta,
            discount=practice.discount,
            whiten_rewards=practice.whiten_rewards,
            add_up=world.add_up,
        )
        if practice.vllm is not None:
            experience = with_importance(experience, practice.importance)
        found = describe(drawn, scores, measured, experience, world)
        found["objective/beta"] = state.kl.beta
        self.updating = True
        learned = self._updater.run(
            experience, rollout=state.rollout, warmup=practice.critic_warmup
        )
        self.updating = False
        clock.lap("seconds/update")
        unscored = round(found["score/unscored"] * practice.size)
        return (
            replace(
                state,
                kl=state.kl.after(found["objective/kl"], practice.size),
                moments=moments,
                rollout=state.rollout + 1,
                responses=state.responses + practice.size,
                unscored=state.unscored + unscored,
            ),
            found | learned | clock.laps,
            [Sample(a.prompt.text, text) for a, text in zip(asked, texts, strict=True)],
        )

    def _check_numbers(self, measured: Measured, rollout: int) -> None:
        tables = (measured.logprobs_BT, measured.values_BT)
        if self._world.agree(not all(bool(table.isfinite().all()) for table in tables)):
            raise Diverged(
                f"rollout {rollout + 1}: log-probabilities or values are no numbers any more",
                hint="lower learning_rate or critic_learning_rate; the last checkpoint is kept",
            )

    def _ask(self, rollout: int) -> list[Asked]:
        """Return this process's part of what a rollout asks."""
        practice = self._practice
        asked = self._prompts.ask(
            rollout, size=practice.size, per_prompt=practice.per_prompt, seed=practice.seed
        )
        return [one for i, one in enumerate(asked) if self._world.owns(i)]

    def _draw(self, asked: Sequence[Asked]) -> Drawn:
        practice = self._practice
        if practice.vllm is not None:
            with self._models.sampled():
                tokens = [a.tokens for a in asked]
                return Drawn(tokens, practice.vllm.draw(tokens, [a.seed for a in asked]))
        # Prompts of similar length together: less padding, and nothing depends on the order.
        order = sorted(range(len(asked)), key=lambda i: len(asked[i].tokens))
        step = practice.generation_batch or max(len(asked), 1)
        found: dict[int, Sampled] = {}
        with self._models.sampled() as policy:
            for start in range(0, len(order), step):
                rows = order[start : start + step]
                drawn = sample_responses(
                    policy,
                    [asked[i].tokens for i in rows],
                    [asked[i].seed for i in rows],
                    stop_ids=practice.stop_ids,
                    pad_id=practice.pad_id,
                    max_new_tokens=practice.max_new_tokens,
                    temperature=practice.temperature,
                )
                found.update(zip(rows, drawn, strict=True))
        return Drawn([a.tokens for a in asked], [found[i] for i in range(len(asked))])

    def _text(self, sampled: Sampled) -> str:
        tokens = sampled.tokens[:-1] if sampled.ended else sampled.tokens
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _score(self, asked: Sequence[Asked], texts: list[str]) -> list[float | None]:
        columns: dict[str, list[Any]] = {
            "prompt_id": [a.prompt.id for a in asked],
            "tags": [a.prompt.tags for a in asked],
        }
        failed: RlaifError | None = None
        scores: list[float | None] = []
        try:
            scores = collect_scores(
                self._scorer,
                [a.messages for a in asked],
                texts,
                columns,
                timeout=self._practice.scorer_timeout,
            )
        except RlaifError as problem:
            failed = problem
        if self._world.agree(failed is not None):  # or the others would wait for this one for ever
            raise failed or TrainingError("the scorer failed in another process")
        if not self._world.agree(any(score is not None for score in scores)):
            raise TrainingError(
                f"not one of the {self._practice.size} responses of this rollout was scored",
                hint="see why the scorer returns None; there is nothing to learn from",
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
