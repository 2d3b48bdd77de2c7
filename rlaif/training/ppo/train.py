"""`train_ppo`: prompts and a scorer in, a policy out; repeat it to resume after an interruption."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaif.config.online import LoggingSettings
from rlaif.config.ppo import PpoConfig
from rlaif.training.data.prompts import AnyPrompt
from rlaif.training.harness.folder import TrainingFolder, TrainResult
from rlaif.training.harness.inputs import Inputs, Said, read_settings
from rlaif.training.harness.metrics import Watch
from rlaif.training.harness.online import ONE_SCORER, OnlineData, OnlineSource, read_online
from rlaif.training.harness.progress import Style
from rlaif.training.harness.recipe import Ended, Recipe, train
from rlaif.training.harness.save import write_model
from rlaif.training.ppo.actor_critic import ActorCritic
from rlaif.training.ppo.build import (
    build_trainer,
    check_critic,
    critic_plan,
    gather,
    load_actor_critic,
)
from rlaif.training.ppo.checkpoint import State, load_checkpoint, save_checkpoint
from rlaif.training.ppo.distributed import Distributed, join_processes
from rlaif.training.ppo.experience import CURVES
from rlaif.training.ppo.losses import KlControl
from rlaif.training.ppo.optimiser import Optimiser
from rlaif.training.ppo.trainer import Models, PpoTrainer
from rlaif.training.scorers import Scorer


def train_ppo(
    config: Said = None,
    *,
    scorer: Scorer,
    prompts: Sequence[AnyPrompt] | None = None,
    model: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    style: Style = "quiet",
    **overrides: Any,
) -> TrainResult:
    """Train a policy with proximal policy optimisation.

    Called again with the same arguments it resumes from the last checkpoint in ``out``, and takes
    the steps that an uninterrupted training would have taken. A training that is finished is not
    repeated: its result is read and returned.

    Args:
        config: A training file, a mapping or settings; see `rlaif.config.ppo.PpoConfig`.
        scorer: See `rlaif.training.scorers`; in place of the file's ``reward``. A callable without
            an ``identity`` cannot be compared: change it between two calls and the training
            continues with the new one.
        prompts: `Prompt` records, strings or lists of chat messages, in place of the file's.
        model: The policy to start from: a shipped name, a folder or a hub id.
        out: Receives the policy in transformers format, metrics, samples, curves and model card.
        force: Start over, removing what an earlier training left in ``out``.
        style: How progress is shown.
        **overrides: Single settings, such as ``rollouts=20``.

    Raises:
        InputError: Settings, model, prompts or tokenizer cannot be used; nothing was started.
        RunMismatch: ``out`` holds a training with other settings, model, prompts or reward.
        TrainingError: The scorer failed or memory ran out; what was reached is saved in ``out``.
        KeyboardInterrupt: A stop was requested; saved after the current rollout.
    """
    settings = read_settings(PpoConfig, config, {**overrides, "model": model, "out": out})
    return train(PPO, settings, OnlineSource(scorer, prompts), force=force, style=style)


class PpoLoop:
    """Runs rollouts and saves checkpoints; see `rlaif.training.harness.recipe.Loop`.

    Args:
        trainer: Makes the rollouts.
        models: What it trains.
        optimisers: ``policy`` and ``critic``; their parameters are what is saved.
        start: Where a training begins.
        logging: How often what is written and shown.
        folder: The training's.
        world: The processes.
    """

    def __init__(
        self,
        trainer: PpoTrainer,
        models: Models,
        *,
        optimisers: Mapping[str, Optimiser],
        start: State,
        logging: LoggingSettings,
        folder: TrainingFolder,
        world: Distributed,
    ) -> None:
        self._trainer = trainer
        self._models = models
        self._optimisers = optimisers
        self._state = start
        self._logging = logging
        self._folder = folder
        self._world = world

    @property
    def step(self) -> int:
        """The last finished rollout."""
        return self._state.rollout

    def run(self, checkpoint: Path | None, watch: Watch) -> Ended:
        """Make the rollouts that are left."""
        if checkpoint is not None:
            self._state = load_checkpoint(checkpoint, self._optimisers)
        watch.begin(self._trainer.rollouts, trackers=self._logging.report_to)
        for state, metrics, samples in self._trainer.run(self._state):
            self._state, number = state, state.rollout
            watch.add(number, metrics)
            if self._logging.show_samples and number % self._logging.show_every == 0:
                watch.show(number, samples[: self._logging.show_samples])
            if number % self._logging.save_every == 0:
                self._save()
            if self._world.agree(watch.stopping()) and number < self._trainer.rollouts:
                raise KeyboardInterrupt
        done, prompts = self._state, self._models.prompts
        counts = {"responses": done.responses, "unscored": done.unscored}
        left = {"prompts": len(prompts.prompts), "prompts_too_long": prompts.too_long}
        return Ended(done.rollout, {**counts, **left}, _notes(done))

    def rescue(self, problem: BaseException) -> str:  # noqa: ARG002 - all problems alike
        """Save the state, whatever stops the training."""
        self._save(torn=self._trainer.updating)
        return "what was reached is saved"

    def save(self, folder: Path) -> None:
        """Write the critic into ``critic/``, and the policy."""
        if self._folder.is_main:
            self._models.actor_critic.save_critic(folder / "critic")
            write_model(self._models.actor_critic.policy, folder)

    def wait(self) -> None:
        """Wait for all processes."""
        self._world.wait()

    def _save(self, *, torn: bool = False) -> None:
        """Write a checkpoint of where the training stands, unless it is on disk already.

        ``torn``: an update was interrupted, so the weights are between two rollouts. They never
        take the place of a checkpoint of the rollout before, from which a resume is exact.

        Raises:
            Diverged: Some weights are NaN or infinite.
        """
        last = self._folder.last_checkpoint()
        on_disk = last is not None and last[0] == self._state.rollout
        if not self._folder.is_main or on_disk or (self._state.rollout == 0 and not torn):
            return
        for optimiser in self._optimisers.values():
            optimiser.check()
        if torn:
            self._state = dataclasses.replace(self._state, torn=True)
        save_checkpoint(self._folder, self._state, self._optimisers)


def _notes(state: State) -> tuple[str, ...]:
    notes = [
        "KL is in nats per sequence, against the policy that training started from",
    ]
    if state.torn:
        notes.append("an update was interrupted and made again: nothing repeats this exactly")
    return tuple(notes)


def _read(settings: PpoConfig, source: OnlineSource) -> Inputs[OnlineData]:
    join_processes()  # which also refuses a launcher that shards models
    inputs = read_online(settings, source, tools=True)
    check_critic(settings, inputs.tokenizer)
    return dataclasses.replace(inputs, plan={**inputs.plan, **critic_plan(settings)})


def _load(settings: PpoConfig) -> ActorCritic:
    world = join_processes()
    world.wait()  # until the main process has taken or refused the folder
    return load_actor_critic(settings, world)


def _build(
    settings: PpoConfig, folder: TrainingFolder, loaded: ActorCritic, inputs: Inputs[OnlineData]
) -> PpoLoop:
    world = join_processes()
    models = gather(loaded, inputs.tokenizer, inputs.data.prompts)
    trainer, updater = build_trainer(models, inputs.data.scorer, settings, world)
    kl = KlControl(settings.beta, settings.kl_target, settings.kl_gain)
    return PpoLoop(
        trainer,
        models,
        optimisers={"policy": updater.policy, "critic": updater.critic},
        start=State(kl),
        logging=settings.part(LoggingSettings),
        folder=folder,
        world=world,
    )


PPO = Recipe("ppo", _read, _load, _build, curves=CURVES, caveats=ONE_SCORER)
