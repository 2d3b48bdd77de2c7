"""RLOO and GRPO through TRL, with the scorers and the manner of our own PPO.

Both need no critic: the other responses to the same prompt are the baseline. TRL computes KL its
own way: RLOO subtracts it from the score of a whole response, GRPO adds it to the loss.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from rlaif.config.load import load_config
from rlaif.config.ppo import GroupConfig, GrpoConfig, RlooConfig, VllmConfig
from rlaif.errors import InputError
from rlaif.training.data.sampler import PassSampler
from rlaif.training.harness.card import model_card, provenance_of
from rlaif.training.harness.folder import TrainingFolder, TrainResult, open_training
from rlaif.training.harness.metrics import draw_curves, need_trackers, read_metrics
from rlaif.training.harness.progress import Style
from rlaif.training.harness.run import quiet_libraries, run_trainer, save_final, seed_all
from rlaif.training.harness.settings import is_main_process, lora_settings
from rlaif.training.models import device_kind, identify_model, load_policy, take_device
from rlaif.training.ppo.build import computes_in_bf16
from rlaif.training.ppo.prompts import AnyPrompt, PromptSet, load_prompt_set
from rlaif.training.ppo.vllm import need_vllm
from rlaif.training.reward_plan import reward_plan
from rlaif.training.scorers import Scorer, as_reward_func, name_of

ConfigT = TypeVar("ConfigT", bound=GroupConfig)

_FREE = {
    *("gradient_checkpointing", "keep_checkpoints", "save_every"),
    *("report_to", "scorer_timeout", "show_every", "show_samples"),
}
"""Settings a resumed training may change: they do not touch what is learned."""

_CURVES = ("reward", "kl", "entropy", "completions/mean_length", "loss", "grad_norm")
_SHOWN = ("reward", "kl", "completions/mean_length", "completions/clipped_ratio")


def train_rloo(
    *,
    prompts: Sequence[AnyPrompt],
    model: str | Path,
    scorer: Scorer,
    out: str | Path,
    config: RlooConfig | None = None,
    style: Style = "quiet",
    force: bool = False,
    **overrides: Any,
) -> TrainResult:
    """Train a policy with RLOO. Arguments, resuming and errors are those of `train_ppo`."""
    settings = _settings(RlooConfig, config, overrides)

    def build(common: dict[str, Any], **parts: Any) -> Any:
        from trl.trainer.rloo_config import RLOOConfig
        from trl.trainer.rloo_trainer import RLOOTrainer

        clip = settings.score_clip
        arguments = RLOOConfig(
            **common,
            normalize_advantages=settings.normalise_advantages,
            reward_clip_range=None if clip is None else (-clip, clip),
        )
        return _in_passes(RLOOTrainer)(args=arguments, **parts)

    said = (provenance_of(config), reward_plan(config))
    work = _Work("rloo", settings, str(model), Path(out), scorer, style, *said)
    return work.carry_out(prompts, build, force=force)


def train_grpo(
    *,
    prompts: Sequence[AnyPrompt],
    model: str | Path,
    scorer: Scorer,
    out: str | Path,
    config: GrpoConfig | None = None,
    style: Style = "quiet",
    force: bool = False,
    **overrides: Any,
) -> TrainResult:
    """Train a policy with GRPO. Arguments, resuming and errors are those of `train_ppo`."""
    settings = _settings(GrpoConfig, config, overrides)

    def build(common: dict[str, Any], **parts: Any) -> Any:
        from trl.trainer.grpo_config import GRPOConfig
        from trl.trainer.grpo_trainer import GRPOTrainer

        arguments = GRPOConfig(
            **common, loss_type=settings.loss, scale_rewards=settings.scale_scores
        )
        return _in_passes(GRPOTrainer)(args=arguments, **parts)

    said = (provenance_of(config), reward_plan(config))
    work = _Work("grpo", settings, str(model), Path(out), scorer, style, *said)
    return work.carry_out(prompts, build, force=force)


def _settings(kind: type[ConfigT], config: ConfigT | None, overrides: dict[str, Any]) -> ConfigT:
    take_device()
    given = {} if config is None else config.model_dump(include=set(kind.model_fields))
    return load_config(kind, given | overrides)


def _free(settings: GroupConfig) -> set[str]:
    """Return `_FREE`, and ``micro_batch`` where the loss is not divided by its tokens."""
    by_tokens = isinstance(settings, GrpoConfig) and settings.loss == "bnpo"
    return _FREE if by_tokens else {*_FREE, "micro_batch"}


def _in_passes(trainer: Any) -> Any:
    """Return TRL's trainer, version 1.16, with passes over the prompts that can be resumed."""

    class InPasses(trainer):  # type: ignore[misc]
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            sampler = super()._get_train_sampler(dataset)
            return PassSampler(sampler, seed=self.args.seed)

    return InPasses


@dataclasses.dataclass(frozen=True, slots=True)
class _Work:
    """One call of `train_rloo` or `train_grpo`."""

    kind: str
    settings: GroupConfig
    model: str
    out: Path
    scorer: Scorer
    style: Style
    provenance: dict[str, Any]
    """For the model card."""

    reward: dict[str, Any]
    """By content, as far as a training file says."""

    def carry_out(self, prompts: Sequence[AnyPrompt], build: Any, *, force: bool) -> TrainResult:
        """Train, or return the result of a training that is finished."""
        with quiet_libraries():
            asked = self._read(prompts)
            plan = {
                **self.settings.model_dump(mode="json", exclude=_free(self.settings)),
                "model": identify_model(self.model, revision=self.settings.revision),
                "prompts": asked.fingerprint,
                **self.reward,
            }
            folder = open_training(self.out, self.kind, plan, force=force, main=is_main_process())
            with contextlib.closing(folder):
                return folder.finished() or self._train(folder, plan, asked, build)

    def _read(self, prompts: Sequence[AnyPrompt]) -> PromptSet:
        settings = self.settings
        need_trackers(settings.report_to)
        if settings.vllm is not None:
            need_vllm()
        _, asked = load_prompt_set(
            self.model,
            prompts,
            revision=settings.revision,
            chat_template=settings.chat_template,
            max_new_tokens=settings.max_new_tokens,
            max_prompt_tokens=settings.max_prompt_tokens,
        )
        needed = settings.rollout_size // settings.group_size
        if len(asked.prompts) < needed:
            raise InputError(
                f"a rollout asks {needed} different prompts and there are {len(asked.prompts)}",
                hint="lower rollout_size or raise group_size",
            )
        return asked

    def _train(
        self, folder: TrainingFolder, plan: dict[str, Any], asked: PromptSet, build: Any
    ) -> TrainResult:
        from datasets import Dataset

        settings = self.settings
        seed_all(settings.seed)
        policy, tokenizer = load_policy(
            self.model,
            dtype="float32" if settings.lora is None else settings.dtype,
            revision=settings.revision,
            lora=lora_settings(settings.lora),
            chat_template=settings.chat_template,
        )
        rows = [
            {"prompt": list(p.messages), "prompt_id": p.id, "tags": list(p.tags)}
            for p in asked.prompts
        ]
        trainer = build(
            _arguments(settings, folder, bf16=computes_in_bf16(settings.dtype, policy)),
            model=policy,
            reward_funcs=as_reward_func(self.scorer, timeout=settings.scorer_timeout),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        result = run_trainer(
            trainer,
            folder,
            style=self.style,
            sample_prompts=[row["prompt"] for row in rows[: settings.show_samples]],
            sample_every=settings.show_every * settings.steps,
            sample_tokens=settings.max_new_tokens,
            stop_every=settings.steps,
        )
        save_final(trainer, tokenizer, folder)
        if folder.is_main:
            self._write_up(folder, result, plan, asked)
        return result

    def _write_up(
        self, folder: TrainingFolder, result: TrainResult, plan: dict[str, Any], asked: PromptSet
    ) -> None:
        rows = read_metrics(folder.out)
        draw_curves(rows, _CURVES, folder.out / "curves.png")
        facts = [
            f"{result.steps} optimiser steps on responses to {len(asked.prompts)} prompts",
            f"prompts left out because they were too long: {asked.too_long}",
        ]
        named = {"model": Path(self.model).name, "scorer": name_of(self.scorer)}
        card = model_card(
            self.kind.upper(), plan | named | self.provenance, facts, rows=rows, shown=_SHOWN
        )
        (folder.out / "README.md").write_text(card, encoding="utf-8")
        folder.finish(result, keep_checkpoints=self.settings.keep_checkpoints)


def _arguments(settings: GroupConfig, folder: TrainingFolder, *, bf16: bool) -> dict[str, Any]:
    """Return what both of TRL's configs are built with."""
    import os

    on_gpu = device_kind() == "cuda"
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    per_step = settings.micro_batch * processes
    if settings.minibatch_size % per_step:
        raise InputError(
            f"minibatch_size {settings.minibatch_size} is no multiple of micro_batch times "
            f"{processes} processes"
        )
    return {
        "output_dir": str(folder.checkpoints),
        "learning_rate": settings.rate,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "max_steps": settings.rollouts * settings.steps,
        "per_device_train_batch_size": settings.micro_batch,
        "gradient_accumulation_steps": settings.minibatch_size // per_step,
        "generation_batch_size": settings.rollout_size,
        "num_generations": settings.group_size,
        "num_iterations": settings.epochs,
        "max_completion_length": settings.max_new_tokens,
        # The scored distribution is the sampled one: temperature and nothing else.
        "temperature": settings.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "repetition_penalty": 1.0,
        "beta": settings.beta,
        "epsilon": settings.clip_low,
        "epsilon_high": settings.clip_high,
        "mask_truncated_completions": settings.skip_cut_off,
        "disable_dropout": True,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "seed": settings.seed,
        "use_cpu": not on_gpu,
        "bf16": bf16,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_steps": settings.save_every * settings.steps,
        "save_total_limit": 2,
        "report_to": list(settings.report_to),
        "project": "rlaif",
        "run_name": folder.out.name,
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
        **_vllm_arguments(settings.vllm),
    }


def _vllm_arguments(settings: VllmConfig | None) -> dict[str, Any]:
    if settings is None:
        return {}
    place: dict[str, Any] = {"vllm_gpu_memory_utilization": settings.gpu_memory_utilization}
    if settings.mode == "server":
        place = {"vllm_server_base_url": settings.base_url}
    return {"use_vllm": True, "vllm_mode": settings.mode, **place}
