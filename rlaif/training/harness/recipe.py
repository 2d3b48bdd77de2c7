"""One training from start to end, whatever is trained: the steps that all six trainers share.

read → tokenise → split → plan → take the folder → finished already? → seed → load → build → run →
save → card. A `Recipe` fills in what belongs to one trainer; `train` does the rest once.
"""

import contextlib
import gc
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from transformers import set_seed

from rlaif.config.online import OnlineConfig
from rlaif.config.train import TrainConfig
from rlaif.errors import TrainingError
from rlaif.training.harness.folder import TrainingFolder, TrainResult, open_training
from rlaif.training.harness.inputs import DataT, Inputs, is_main_process
from rlaif.training.harness.metrics import Watch, need_trackers
from rlaif.training.harness.progress import Style
from rlaif.training.harness.save import publish, staging_folder, write_card
from rlaif.training.harness.stopping import (
    Diverged,
    Interrupts,
    is_disk_full,
    is_out_of_memory,
    memory_hint,
)

SettingsT = TypeVar("SettingsT", bound=TrainConfig | OnlineConfig)
SourceT = TypeVar("SourceT")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a loop ended."""

    steps: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Measured besides what the watch received."""

    notes: tuple[str, ...] = ()
    """For the card."""


class Loop(Protocol):
    """A training that is ready to run."""

    @property
    def step(self) -> int:
        """The last finished step."""
        ...

    def run(self, checkpoint: Path | None, watch: Watch) -> Ended:
        """Train to the end from a checkpoint, or from the start.

        Raises:
            KeyboardInterrupt: A stop was requested; the state is saved.
        """
        ...

    def rescue(self, problem: BaseException) -> str:
        """Save the state when a problem stops the training; return what is kept, in words."""
        ...

    def save(self, folder: Path) -> None:
        """Write the final models. The last thing that is done with them."""
        ...

    def wait(self) -> None:
        """Wait for all processes."""
        ...


@dataclass(frozen=True, slots=True)
class Recipe(Generic[SettingsT, SourceT, DataT]):
    """What belongs to one trainer."""

    kind: str
    """``sft``, ``reward``, ``dpo``, ``ppo``, ``rloo`` or ``grpo``."""

    read: Callable[[SettingsT, SourceT], Inputs[DataT]]
    """Read, tokenise and split the data, and say what the result depends on."""

    load: Callable[[SettingsT], Any]
    """Load the models; torch's generators are seeded."""

    build: Callable[[SettingsT, TrainingFolder, Any, Inputs[DataT]], Loop]
    """Put models, data and loss together."""

    curves: tuple[str, ...]
    """Metrics to draw."""

    after: Callable[[Any, SettingsT, Inputs[DataT]], dict[str, Any]] | None = None
    """Measure once more when the training is over."""

    pipeline: str = "text-generation"
    """``pipeline_tag`` of the checkpoint on the Hub."""

    caveats: tuple[str, ...] = ()
    """What the card says of every such training."""


def train(
    recipe: Recipe[SettingsT, SourceT, DataT],
    settings: SettingsT,
    source: SourceT,
    *,
    force: bool = False,
    style: Style = "quiet",
) -> TrainResult:
    """Train, resume, or return the result of a training that is finished.

    Args:
        recipe: The trainer.
        settings: The trainer's.
        source: What its recipe reads.
        force: Start over instead of resuming, or of leaving a finished training alone.
        style: How progress is shown.

    Raises:
        InputError: Settings, data or models cannot be used; nothing was started.
        EngineMissing: A library that the settings name is not installed.
        RunMismatch: ``out`` holds another training.
        TrainingError: Out of memory, a failing scorer, or weights that are NaN.
        KeyboardInterrupt: A stop was requested; the current step is finished and saved.
    """
    need_trackers(settings.report_to)
    with quiet_libraries():
        inputs = recipe.read(settings, source)
        folder = open_training(
            settings.out, recipe.kind, inputs.plan, force=force, main=is_main_process()
        )
        with contextlib.closing(folder):
            finished = None if force else folder.finished()
            if finished is not None:
                return finished
            return _run(recipe, settings, folder, inputs, style)


def _run(
    recipe: Recipe[SettingsT, SourceT, DataT],
    settings: SettingsT,
    folder: TrainingFolder,
    inputs: Inputs[DataT],
    style: Style,
) -> TrainResult:
    began = time.monotonic()
    set_seed(settings.seed)  # before models are loaded, whose new parts are drawn
    loop = recipe.build(settings, folder, recipe.load(settings), inputs)
    loop.wait()
    step, checkpoint = folder.last_checkpoint() or (0, None)
    with (
        Interrupts() as interrupts,
        _explaining_a_full_disk(loop, folder),
        Watch(folder, step, style=style, stopping=lambda: interrupts.requested) as watch,
        _rescuing(loop, recipe.kind),
    ):
        for note in inputs.notes:
            watch.say(note)
        if step:
            watch.say(f"resuming after step {step}")
        ended = loop.run(checkpoint, watch)
    more = recipe.after(loop, settings, inputs) if recipe.after is not None else {}
    result = TrainResult(
        out=folder.out,
        kind=recipe.kind,
        steps=ended.steps,
        metrics={**watch.last, **ended.metrics, **more},
        seconds=time.monotonic() - began,
        resumed_from=step,
    )
    with _explaining_a_full_disk(loop, folder):
        _save(recipe, settings, loop, folder, inputs, result, ended.notes)
    return result


def _save(
    recipe: Recipe[SettingsT, SourceT, DataT],
    settings: SettingsT,
    loop: Loop,
    folder: TrainingFolder,
    inputs: Inputs[DataT],
    result: TrainResult,
    notes: tuple[str, ...],
) -> None:
    """Write the final models and the card, then say that the training is finished."""
    staging = staging_folder(folder.out)
    if folder.is_main:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
    loop.wait()
    loop.save(staging)
    if folder.is_main:
        for place in (staging, staging / "adapter"):
            if place.is_dir():
                inputs.tokenizer.save_pretrained(place)
        write_card(
            staging,
            result=result,
            settings=settings,
            inputs=inputs,
            notes=(*inputs.notes, *notes, *recipe.caveats),
            curves=recipe.curves,
            pipeline=recipe.pipeline,
        )
        publish(staging, folder.out)
        folder.finish(result, keep_checkpoints=settings.keep_checkpoints)
    loop.wait()


@contextlib.contextmanager
def _explaining_a_full_disk(loop: Loop, folder: TrainingFolder) -> Iterator[None]:
    """Say what is kept when a file cannot be written for want of space."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as problem:
        if not is_disk_full(problem):
            raise
        if folder.is_main:  # half-written files hold the space that is missing
            folder.drop_partial()
            shutil.rmtree(staging_folder(folder.out), ignore_errors=True)
        last = folder.last_checkpoint()
        kept = f"the checkpoint of step {last[0]} is kept" if last else "no checkpoint is kept"
        raise TrainingError(
            f"{folder.out}: the disk is full, after step {loop.step}; {kept}",
            hint="free some space, then repeat the command to resume",
        ) from problem


@contextlib.contextmanager
def _rescuing(loop: Loop, kind: str) -> Iterator[None]:
    """Save the state whatever stops a training, unless its weights are NaN."""
    try:
        yield
    except Diverged:
        raise
    except BaseException as problem:
        if is_disk_full(problem):
            raise  # saving would fail, too
        memory = is_out_of_memory(problem)
        if memory:
            gc.collect()  # the failed step's activations: saving needs some memory, too
        kept = loop.rescue(problem)
        if not memory:
            raise
        raise TrainingError(
            f"out of memory at step {loop.step + 1}; {kept}", hint=memory_hint(kind)
        ) from problem


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
