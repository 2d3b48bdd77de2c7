"""One training from start to end, whatever its loss: resume, watch, survive, save.

SFT, reward models and the DPO family hand a ready transformers Trainer to `run_trainer`; it
resumes from the newest whole checkpoint, stops cleanly on Ctrl-C, keeps what was reached when
memory runs out, and leaves a checkpoint that plain transformers loads.
"""

import contextlib
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import torch

from rlaif.config.train import TrainConfig
from rlaif.errors import EngineError, StoppedEarly, TrainingError
from rlaif.training.harness.folder import TrainingFolder, TrainResult
from rlaif.training.harness.metrics import MetricsLog, drop_lines_after, need_trackers
from rlaif.training.harness.progress import FILE as SAMPLES, Sample, Style, sample_replies
from rlaif.training.harness.watch import TrainingWatch, all_finite, restore_random
from rlaif.training.models import count_parameters, device_kind, is_out_of_memory, memory_hint
from rlaif.training.scorers import ScorerFailed

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_ECHO = 1.0
"""Seconds within which more signals are the same wish: a launcher hands on the Ctrl-C that the
terminal has already given to everyone."""


class Interrupts:
    """Ctrl-C while training: finish the step, save, stop. A second one stops at once.

    An optimiser step that is broken off leaves half-updated weights, so the first signal only
    leaves a mark that the training loop looks at between steps.

    A context manager that turns the first SIGINT or SIGTERM into ``asked``.

    Does nothing outside the main thread, where Python delivers no signals; a notebook's interrupt
    then raises KeyboardInterrupt as usual and the last checkpoint stands.
    """

    def __init__(self) -> None:
        self.asked = False
        self._first = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._ask) for name in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            self._first = time.monotonic()
        elif time.monotonic() - self._first > _ECHO:
            before = self._before.get(signal.Signals(number))
            self._restore()
            if callable(before):
                before(number, frame)
            else:
                raise KeyboardInterrupt

    def _restore(self) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)
        self._before = {}


_BIG = 500_000_000
"""Parameters above which activations are recomputed rather than kept, on a GPU."""


def trainer_arguments(config: TrainConfig, folder: TrainingFolder, model: Any) -> dict[str, Any]:
    """Return what every TRL config is built with, from our settings, the device and the size.

    Raises:
        EngineMissing: A tracker in ``report_to`` is not installed.
    """
    on_gpu = device_kind() == "cuda"
    big = on_gpu and count_parameters(model) > _BIG
    in_bf16 = big and config.dtype != "float32" and torch.cuda.is_bf16_supported()
    need_trackers(config.report_to)
    recompute = config.gradient_checkpointing
    return {
        "output_dir": str(folder.checkpoints),
        "learning_rate": config.learning_rate,
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.accumulate,
        "lr_scheduler_type": config.schedule,
        "warmup_steps": config.warmup,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "max_length": config.max_length,
        "seed": config.seed,
        "use_cpu": not on_gpu,
        "bf16": in_bf16,
        "tf32": True if on_gpu and torch.cuda.get_device_capability() >= (8, 0) else None,
        "gradient_checkpointing": big if recompute is None else recompute,
        "logging_steps": config.log_every,
        "logging_nan_inf_filter": False,
        "save_steps": config.save_every,
        "save_total_limit": 2,
        "report_to": list(config.report_to),
        "project": "rlaif",
        "run_name": folder.out.name,
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
        "eval_strategy": "no",
        "ddp_find_unused_parameters": False,
    }


def run_trainer(
    trainer: Any,
    folder: TrainingFolder,
    *,
    style: Style = "quiet",
    sample_prompts: Sequence[Any] = (),
    sample_every: int = 0,
    sample_tokens: int = 64,
    stop_every: int = 1,
) -> TrainResult:
    """Train to the end, from wherever the folder's last checkpoint stands, then measure.

    Returns:
        What was measured last and on the held-out rows (``held_out``), if there are any.

    Raises:
        TrainingError: Out of memory, or the loss is no number. What was reached is saved.
        KeyboardInterrupt: Asked to stop; saved after the step that was going on.
    """
    from transformers import PrinterCallback

    trainer.accelerator.wait_for_everyone()
    last = folder.last_checkpoint()
    step = last[0] if last else 0
    began = time.monotonic()
    log = MetricsLog(folder.out, resume_step=step, enabled=folder.is_main)
    if folder.is_main:
        drop_lines_after(folder.out / SAMPLES, step)
    trainer.remove_callback(PrinterCallback)
    with contextlib.closing(log), Interrupts() as interrupts:
        watch = TrainingWatch(
            folder,
            log,
            lambda: _agreed(trainer.accelerator, interrupts.asked),
            style=style,
            sample=_sampler(trainer, sample_prompts, sample_tokens),
            sample_every=sample_every if sample_prompts else 0,
            stop_every=stop_every,
        )
        watch.broken = lambda: _agreed(trainer.accelerator, not all_finite(trainer.model))
        trainer.add_callback(watch)
        with contextlib.closing(watch):
            _train(trainer, folder, watch, str(last[1]) if last else None)
        if trainer.state.global_step < trainer.state.max_steps:
            raise KeyboardInterrupt  # nothing else stops it early
    held_out = _evaluate(trainer)
    return TrainResult(
        out=folder.out,
        kind=folder.kind,
        steps=trainer.state.global_step,
        metrics={**watch.last, **({"held_out": held_out} if held_out else {})},
        seconds=time.monotonic() - began,
        resumed_from=step,
    )


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the libraries' own bars, reports and deprecation notices off the screen."""
    import datasets
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    bars = datasets.are_progress_bars_disabled()
    logging.set_verbosity(40)  # logging.ERROR
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            # transformers 5.23 renames gradient checkpointing; TRL and PEFT still use the old name
            warnings.filterwarnings(
                "ignore", message=".*gradient_checkpointing", category=FutureWarning
            )
            yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        if not bars:
            datasets.enable_progress_bars()


def seed_all(seed: int) -> None:
    """Seed Python, numpy and torch: before a model is loaded, whose new parts are drawn."""
    from transformers import set_seed

    set_seed(seed)


def save_final(trainer: Any, tokenizer: Any, folder: TrainingFolder) -> None:
    """Write model and tokenizer into ``out``; files appear whole, the weights last.

    An adapter is written by itself into ``adapter/`` and merged into the model that plain
    transformers loads. A quantised base cannot take it without loss: then only the adapter is
    written, and the error of whoever loads ``out`` as a model names it.
    """
    staging = folder.out / ".saving"
    adapted = hasattr(trainer.accelerator.unwrap_model(trainer.model), "peft_config")
    if folder.is_main:
        shutil.rmtree(staging, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(staging / "adapter" if adapted else staging))
    if not folder.is_main:
        return
    if adapted:
        _merge(trainer, staging)
    tokenizer.save_pretrained(staging)
    for path in staging.rglob("training_args.bin"):
        path.unlink()  # a pickle; nothing of ours is unpickled
    for path in sorted(staging.iterdir(), key=lambda p: p.suffix == ".safetensors"):
        target = folder.out / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    staging.rmdir()


def _merge(trainer: Any, staging: Path) -> None:
    """Write the model with its adapter merged in, unless the base is held in 4 bits."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if getattr(model, "is_loaded_in_4bit", False):
        return
    model.merge_and_unload().save_pretrained(staging)


def _evaluate(trainer: Any) -> dict[str, float]:
    """Measure on the held-out rows, under the names used in training."""
    if trainer.eval_dataset is None:
        return {}
    found = trainer.evaluate()
    skip = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_num_tokens")
    return {
        name.removeprefix("eval_"): float(value)
        for name, value in found.items()
        if name.startswith("eval_") and name not in skip
    }


def _sampler(trainer: Any, prompts: Sequence[Any], max_tokens: int) -> Callable[[], list[Sample]]:
    def sample() -> list[Sample]:
        model = trainer.accelerator.unwrap_model(trainer.model)
        return sample_replies(model, trainer.processing_class, prompts, max_tokens=max_tokens)

    return sample


def _agreed(accelerator: Any, asked: bool) -> bool:
    """Whether any process was asked to stop: if only one stopped, the others would wait for it."""
    if accelerator.num_processes == 1:
        return asked
    mark = torch.tensor(float(asked), device=accelerator.device)
    return bool(accelerator.reduce(mark, reduction="sum").item() > 0)


def _train(trainer: Any, folder: TrainingFolder, watch: TrainingWatch, resume: str | None) -> None:
    try:
        trainer.train(resume_from_checkpoint=resume)
    except (ScorerFailed, EngineError, StoppedEarly):
        _save_reached(trainer, folder, watch)
        raise
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as problem:
        if not is_out_of_memory(problem):
            raise
        reached = trainer.state.global_step
        kept = _save_reached(trainer, folder, watch)
        raise TrainingError(
            f"out of memory at step {reached + 1}; {kept}",
            hint=memory_hint(folder.kind),
        ) from problem


def _save_reached(trainer: Any, folder: TrainingFolder, watch: TrainingWatch) -> str:
    """Save the last finished step, unless memory ran out while weights were being changed."""
    step = trainer.state.global_step
    last = folder.last_checkpoint()
    stands = f"the checkpoint of step {last[0]} is kept" if last else "no step was finished"
    if (
        step == 0
        or watch.in_optimiser
        or (last and last[0] == step)
        or not all_finite(trainer.model)
    ):
        return stands
    trainer.model.zero_grad(set_to_none=True)
    if watch.random is not None:  # the step that failed has drawn already
        restore_random(watch.random)
    try:
        trainer._save_checkpoint(trainer.model, None)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError, OSError):
        return stands
    if folder.is_main:
        folder.mark_complete(step)
    return f"the checkpoint of step {step} is kept"
