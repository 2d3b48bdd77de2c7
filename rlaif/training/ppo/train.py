"""`train_ppo`: prompts and a scorer in, a policy out; repeat it to go on after an interruption."""

import contextlib
import gc
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaif.config.load import load_config
from rlaif.config.ppo import PpoConfig
from rlaif.errors import TrainingError
from rlaif.training.harness.card import model_card, provenance_of
from rlaif.training.harness.folder import TrainingFolder, TrainResult, open_training
from rlaif.training.harness.metrics import draw_curves, read_metrics
from rlaif.training.harness.progress import Style
from rlaif.training.harness.run import Interrupts, quiet_libraries
from rlaif.training.models import identify_model, is_out_of_memory, memory_hint
from rlaif.training.ppo.build import (
    Parts,
    build_parts,
    build_practice,
    build_updater,
    critic_plan,
    read_inputs,
)
from rlaif.training.ppo.checkpoint import State, load_checkpoint
from rlaif.training.ppo.describe import CURVES
from rlaif.training.ppo.journal import Habits, Journal
from rlaif.training.ppo.losses import KlControl
from rlaif.training.ppo.optimiser import Diverged
from rlaif.training.ppo.prompts import AnyPrompt, PromptSet
from rlaif.training.ppo.trainer import PpoTrainer
from rlaif.training.ppo.world import World, open_world
from rlaif.training.reward_plan import reward_plan
from rlaif.training.scorers import Scorer, name_of

_SHOWN = ("score/mean", "objective/kl", "response/tokens", "response/ended")


def write_outcome(out: Path, parts: Parts, state: State, *, settings: Mapping[str, Any]) -> None:
    """Write everything into ``out``; files appear whole, the policy's weights last.

    Adapters are merged into the policy that plain transformers loads, and kept in ``adapter/``. A
    base in 4 bits cannot take them up without loss: there only the adapter is written.
    """
    staging = out / ".saving"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    parts.models.save_critic(staging / "critic")
    policy = parts.models.policy
    if hasattr(policy, "peft_config"):
        policy.save_pretrained(staging / "adapter")
        policy = None if getattr(policy, "is_loaded_in_4bit", False) else policy.merge_and_unload()
    if policy is not None:
        policy.save_pretrained(staging)
    parts.tokenizer.save_pretrained(staging)
    rows = read_metrics(out)
    draw_curves(rows, CURVES, staging / "curves.png")
    card = model_card("PPO", settings, _facts(parts, state), rows=rows, shown=_SHOWN)
    (staging / "README.md").write_text(card, encoding="utf-8")
    for path in sorted(staging.iterdir(), key=lambda p: p.suffix == ".safetensors"):
        target = out / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    staging.rmdir()


def _facts(parts: Parts, state: State) -> list[str]:
    facts = [
        f"{state.rollout} rollouts, {state.responses} responses to "
        f"{len(parts.prompts.prompts)} prompts",
        f"responses left out because they were not scored: {state.unscored}",
        f"prompts left out because they were too long: {parts.prompts.too_long}",
        "KL is in nats per sequence, against the policy that training started from",
    ]
    if state.torn:
        facts.append("an update was interrupted and made again: nothing repeats this exactly")
    return facts


_FREE = {
    "generation_batch",
    "gradient_checkpointing",
    "keep_checkpoints",
    "micro_tokens",
    "save_every",
    "scorer_timeout",
    "show_every",
    "report_to",
    "show_samples",
}
"""Settings a resumed training may change: they do not touch what is learned."""


def train_ppo(
    *,
    prompts: Sequence[AnyPrompt],
    model: str | Path,
    scorer: Scorer,
    out: str | Path,
    config: PpoConfig | None = None,
    style: Style = "quiet",
    force: bool = False,
    **overrides: Any,
) -> TrainResult:
    """Train a policy with proximal policy optimisation.

    Called again with the same arguments it goes on from the last checkpoint in ``out``, and takes
    the steps that an uninterrupted training would have taken. A training that is finished is not
    repeated: its result is read and returned.

    Args:
        prompts: `Prompt` records, strings or lists of chat messages.
        model: The policy to start from: a shipped name, a folder or a hub id.
        scorer: See `rlaif.training.scorers`. A callable has no name by content: change it between
            two calls and the training goes on with the new one.
        out: Receives the policy in transformers format, metrics, samples, curves and model card.
        config: Settings; defaults where absent. Of a whole training file the reward counts, too:
            with another one a training is not resumed.
        style: How progress is shown.
        force: Start over, removing what an earlier training left in ``out``.
        **overrides: Single settings, such as ``rollouts=20``.

    Raises:
        InputError: Settings, model, prompts or tokenizer cannot be used; nothing was started.
        RunMismatch: ``out`` holds a training with other settings, model, prompts or reward.
        TrainingError: The scorer failed or memory ran out; what was reached is saved in ``out``.
        KeyboardInterrupt: Asked to stop; saved after the rollout that was going on.
    """
    provenance, reward = provenance_of(config), reward_plan(config)
    given = {} if config is None else config.model_dump(include=set(PpoConfig.model_fields))
    config = load_config(PpoConfig, given | overrides)
    world = open_world()
    with quiet_libraries():
        tokenizer, asked = read_inputs(str(model), prompts, config)
        plan = {
            **config.model_dump(mode="json", exclude=_FREE),
            **critic_plan(config),
            "model": identify_model(str(model), revision=config.revision),
            "prompts": asked.fingerprint,
            **reward,
        }
        folder = open_training(Path(out), "ppo", plan, force=force, main=world.is_main)
        with contextlib.closing(folder):
            world.wait()  # until the main process has taken or refused the folder
            finished = folder.finished()
            if finished is not None:
                return finished
            began = time.monotonic()
            parts = build_parts(str(model), tokenizer, asked, config, world)
            resumed_from, journal = _learn(folder, parts, scorer, config, world, style)
            if folder.is_main:
                write_outcome(
                    folder.out,
                    parts,
                    journal.state,
                    settings={
                        "model": Path(model).name,
                        "scorer": name_of(scorer),
                        **plan,
                        **provenance,
                    },
                )
            result = TrainResult(
                out=folder.out,
                kind="ppo",
                steps=journal.state.rollout,
                metrics={**journal.last, **_counts(journal.state, asked)},
                seconds=time.monotonic() - began,
                resumed_from=resumed_from,
            )
            if folder.is_main:
                folder.finish(result, keep_checkpoints=config.keep_checkpoints)
            world.wait()
            return result


def _learn(
    folder: TrainingFolder,
    parts: Parts,
    scorer: Scorer,
    config: PpoConfig,
    world: World,
    style: Style,
) -> tuple[int, Journal]:
    """Run the loop from the last checkpoint on; return where it began, and its journal."""
    updater = build_updater(parts, config, world)
    optimisers = {"policy": updater.policy, "critic": updater.critic}
    last = folder.last_checkpoint()
    control = KlControl(config.beta, config.kl_target, config.kl_horizon, config.beta_min)
    state = State(control)
    if last is not None:
        state = load_checkpoint(last[1], optimisers)
    trainer = PpoTrainer(
        parts.models,
        updater,
        prompts=parts.prompts,
        tokenizer=parts.tokenizer,
        scorer=scorer,
        practice=build_practice(parts, config, world),
        world=world,
    )
    habits = Habits(
        config.rollouts,
        config.save_every,
        config.show_every,
        config.show_samples,
        style=style,
        report_to=config.report_to,
    )
    with (
        Interrupts() as interrupts,
        Journal(folder, state, optimisers=optimisers, habits=habits) as journal,
        _saving(journal, trainer),
    ):
        if state.rollout:
            journal.say(f"going on after rollout {state.rollout}")
        if parts.prompts.too_long:
            journal.say(f"left out, too long: {parts.prompts.too_long} prompts")
        for finished in trainer.run(state):
            journal.add(*finished)
            if world.agree(interrupts.asked) and journal.state.rollout < config.rollouts:
                raise KeyboardInterrupt
    return state.rollout, journal


@contextlib.contextmanager
def _saving(journal: Journal, trainer: PpoTrainer) -> Iterator[None]:
    """Save where the training stands, whatever stops it but weights that are no numbers."""
    try:
        yield
    except Diverged:
        raise
    except BaseException as problem:
        if not is_out_of_memory(problem):
            journal.save(torn=trainer.updating)
            raise
        gc.collect()  # the failed step's activations: saving needs some memory, too
        journal.save(torn=trainer.updating)
        raise TrainingError(
            f"out of memory in rollout {journal.state.rollout + 1}; what was reached is saved",
            hint=memory_hint("ppo"),
        ) from problem


def _counts(state: State, prompts: PromptSet) -> dict[str, float]:
    return {
        "responses": state.responses,
        "unscored": state.unscored,
        "prompts": len(prompts.prompts),
        "prompts_too_long": prompts.too_long,
    }
