"""`rlaif train`: a training file in, a checkpoint out; the same command resumes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from rlaif.cli import online
from rlaif.cli.output import print, print_json
from rlaif.config.load import load_config, nearest, parse_overrides
from rlaif.config.ppo import GrpoFile, PpoFile, RlooFile
from rlaif.config.train import DpoConfig, RewardConfig, SftConfig
from rlaif.errors import InputError

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
    typer.Option("--launch", help="ddp, fsdp2, zero2, or a settings file of accelerate's."),
]
Processes = Annotated[
    int | None, typer.Option("--processes", min=1, help="How many; absent: one per GPU.")
]


@app.command()
def sft(
    config: Config,
    set_: Sets = None,
    json: Json = False,
    force: Force = False,
    launch: Launch = None,
    processes: Processes = None,
) -> None:
    """Supervised fine-tuning on demonstrations."""
    settings = load_config(SftConfig, config, parse_overrides(set_ or []))
    _start_processes(launch, processes)
    import rlaif.training as training

    _carry_out(training.train_sft, settings, json=json, force=force)


@app.command()
def reward(
    config: Config,
    set_: Sets = None,
    json: Json = False,
    force: Force = False,
    launch: Launch = None,
    processes: Processes = None,
) -> None:
    """A reward model on preference pairs with soft labels."""
    settings = load_config(RewardConfig, config, parse_overrides(set_ or []))
    _start_processes(launch, processes)
    import rlaif.training as training

    _carry_out(training.train_reward, settings, json=json, force=force)


@app.command()
def dpo(
    config: Config,
    set_: Sets = None,
    json: Json = False,
    force: Force = False,
    launch: Launch = None,
    processes: Processes = None,
) -> None:
    """DPO with soft labels, its relatives, and TRL's own losses."""
    settings = load_config(DpoConfig, config, parse_overrides(set_ or []))
    _start_processes(launch, processes)
    import rlaif.training as training

    _carry_out(training.train_dpo, settings, json=json, force=force)


@app.command()
def ppo(
    config: Config,
    set_: Sets = None,
    json: Json = False,
    force: Force = False,
    launch: Launch = None,
    processes: Processes = None,
) -> None:
    """PPO against rules, a reward model or a mixture of them, with a value model of its own."""
    settings = load_config(PpoFile, config, parse_overrides(set_ or []))
    if launch in ("fsdp2", "zero2"):
        raise InputError(f"--launch {launch}: PPO knows ddp only", hint="see docs/ppo.md")
    _start_processes(launch, processes)
    _carry_out(online.train_ppo, settings, json=json, force=force)


@app.command()
def rloo(
    config: Config,
    set_: Sets = None,
    json: Json = False,
    force: Force = False,
    launch: Launch = None,
    processes: Processes = None,
) -> None:
    """REINFORCE, leave one out, with the scorers of ppo."""
    settings = load_config(RlooFile, config, parse_overrides(set_ or []))
    _start_processes(launch, processes)
    _carry_out(online.train_rloo, settings, json=json, force=force)


@app.command()
def grpo(
    config: Config,
    set_: Sets = None,
    json: Json = False,
    force: Force = False,
    launch: Launch = None,
    processes: Processes = None,
) -> None:
    """Group-relative policy optimisation, with the scorers of ppo."""
    settings = load_config(GrpoFile, config, parse_overrides(set_ or []))
    _start_processes(launch, processes)
    _carry_out(online.train_grpo, settings, json=json, force=force)


def _start_processes(strategy: str | None, processes: int | None) -> None:
    """Run this very command once per process and exit; return in the processes themselves."""
    if strategy is None and processes is not None:
        raise InputError("--processes needs --launch", hint="--launch ddp")
    if strategy is None or "RANK" in os.environ:
        return
    from rlaif.training.launch import Strategy, launch

    names: tuple[Strategy, ...] = ("ddp", "fsdp2", "zero2")
    if strategy not in names and strategy.endswith((".yaml", ".yml")):
        raise typer.Exit(launch(Path(strategy), processes, sys.argv))
    if strategy not in names:
        raise InputError(f"--launch {strategy}: unknown{nearest(strategy, names)}")
    chosen: Strategy = next(name for name in names if name == strategy)
    raise typer.Exit(launch(chosen, processes, sys.argv))


def _carry_out(train: Callable[..., Any], settings: Any, *, json: bool, force: bool) -> None:
    from rlaif.training.harness.progress import progress_style
    from rlaif.training.harness.settings import is_main_process

    result = train(config=settings, force=force, style=progress_style(json=json))
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
    for name, value in _shown(result.metrics):
        print(f"  {name}: {value}")
    print(f"read {result.out / 'README.md'} for data, settings and figures", file=sys.stderr)


def _shown(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """What was measured on held-out rows; without any, the last of training."""
    chosen = metrics.get("held_out") or metrics
    prefix = "held-out " if "held_out" in metrics else ""
    rows = []
    for name, value in chosen.items():
        if isinstance(value, int | float):
            rows.append((prefix + name, f"{value:.4g}"))
        elif isinstance(value, dict) and {"value", "low", "high"} <= value.keys():
            text = f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
            rows.append((prefix + name, text))
    return rows
