"""`rlaif train`: a training file in, a checkpoint out; the same command resumes."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

import rlaif
from rlaif.cli.output import print, print_json
from rlaif.config.load import Settings, load_config, parse_overrides
from rlaif.config.online import GrpoConfig, RlooConfig
from rlaif.config.ppo import PpoConfig
from rlaif.config.train import DpoConfig, RewardConfig, SftConfig
from rlaif.training.launch import STRATEGIES, Strategy, start_processes

app = typer.Typer(
    help="Train a policy or a reward model; repeat the command to resume.",
    no_args_is_help=True,
)

Config = Annotated[Path, typer.Argument(help="The training file.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="key=value; overrides the file.", metavar="K=V")
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout, nothing else.")]
Force = Annotated[bool, typer.Option("--force", help="Start over; drops an earlier training.")]
Launch = Annotated[
    str | None,
    typer.Option("--launch", help="ddp, fsdp2, zero2, or an accelerate settings file."),
]
Processes = Annotated[
    int | None,
    typer.Option("--processes", min=1, help="Number of processes (default: one per GPU)."),
]


@dataclass(frozen=True, slots=True)
class _Trainer:
    """One command of ``rlaif train``."""

    schema: type[Settings]
    """Of its file."""

    help: str
    launched: tuple[Strategy, ...] = STRATEGIES


_TRAINERS = {
    "sft": _Trainer(SftConfig, "Supervised fine-tuning on demonstrations."),
    "reward": _Trainer(RewardConfig, "A reward model on preference pairs with soft labels."),
    "dpo": _Trainer(DpoConfig, "DPO with soft labels, its relatives, and TRL's own losses."),
    "ppo": _Trainer(
        PpoConfig,
        "PPO against rules, reward models, judges or a mixture, with a value model.",
        ("ddp",),
    ),
    "rloo": _Trainer(RlooConfig, "REINFORCE, leave one out, with the scorers of ppo."),
    "grpo": _Trainer(GrpoConfig, "Group-relative policy optimisation, with the scorers of ppo."),
}


def _command(kind: str, trainer: _Trainer) -> Callable[..., None]:
    def command(
        config: Config,
        set_: Sets = None,
        json: Json = False,
        force: Force = False,
        launch: Launch = None,
        processes: Processes = None,
    ) -> None:
        settings = load_config(trainer.schema, config, parse_overrides(set_ or []))
        code = start_processes(launch, processes, sys.argv, allowed=trainer.launched)
        if code is not None:
            raise typer.Exit(code)
        _carry_out(getattr(rlaif, f"train_{kind}"), settings, json=json, force=force)

    return command


for _kind, _trainer in _TRAINERS.items():
    app.command(_kind, help=_trainer.help)(_command(_kind, _trainer))


def _carry_out(train: Callable[..., Any], settings: Any, *, json: bool, force: bool) -> None:
    from rlaif.training.harness.figures import main_figures, summarise
    from rlaif.training.harness.inputs import is_main_process
    from rlaif.training.harness.metrics import read_metrics
    from rlaif.training.harness.progress import progress_style

    result = train(settings, force=force, style=progress_style(json=json))
    if not is_main_process():
        return
    if json:
        event = {"event": "finished", **result.to_json()}
        print_json(event, option=orjson.OPT_SERIALIZE_NUMPY)
        return
    if result.already_finished:
        print(f"{result.out}: already finished after {result.steps} steps; nothing was done")
        print("--force starts over", file=sys.stderr)
        return
    resumed = f", resumed from step {result.resumed_from}" if result.resumed_from else ""
    print(f"{result.out}: {result.steps} steps in {result.seconds:.0f} s{resumed}")
    first = next(iter(read_metrics(result.out)), {})
    sentence = summarise(result.kind, first, result.metrics)
    if sentence:
        print(sentence)
    for row in main_figures(result.kind, first, result.metrics):
        came = f"{row.start} → {row.end}" if row.start else row.end
        print(f"  {row.name:28} {came:24} {row.meaning}")
    print(f"read {result.out / 'README.md'} for data, settings and figures", file=sys.stderr)
