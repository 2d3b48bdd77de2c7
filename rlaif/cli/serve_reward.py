"""`rlaif serve-reward`: scorers as the reward of trainers elsewhere."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rlaif.cli.output import print, print_json
from rlaif.config import load_config, parse_overrides
from rlaif.config.reward import ServeRewardConfig
from rlaif.errors import EngineMissing, InputError


def serve_reward(
    config: Annotated[Path, typer.Argument(help="The server file; see docs/handoff/rewards.md.")],
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Overrides the file; 0: any free port.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as unscored=-1."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Serve rewards to OpenRLHF, verl and TRL on 127.0.0.1, until Ctrl-C or SIGTERM."""
    overrides = parse_overrides(set_ or [])
    if port is not None:
        overrides["port"] = port
    settings = load_config(ServeRewardConfig, config, overrides)
    try:
        from rlaif.serving.admission import TOKEN_VARIABLE
        from rlaif.serving.reward_server import HOST, run_reward_server
    except ModuleNotFoundError as problem:
        raise EngineMissing(
            f"the reward server needs {problem.name}, which is not installed",
            hint="pip install 'constitutional-rlaif[serve]'",
        ) from None
    from rlaif.serving.scorer import opened_scorer

    def say(event: str, line: str, **facts: Any) -> None:
        if json:
            print_json({"event": event, **facts})
            sys.stdout.buffer.flush()
        else:
            print(line, file=sys.stderr, flush=True)

    token = os.environ.get(TOKEN_VARIABLE, "").strip()

    def ready(taken: int) -> None:
        url = f"http://{HOST}:{taken}"
        say(
            "ready",
            f"rewards at {url}/get_reward (OpenRLHF), {url}/compute_score (verl), {url}/score; "
            f"figures at {url}/status; Ctrl-C stops"
            + (f"; requests need the token in {TOKEN_VARIABLE}" if token else ""),
            url=url,
            port=taken,
        )

    with opened_scorer(settings.reward, settings.length_penalty, give_up=False) as opened:
        try:
            run_reward_server(opened, settings, token=token, on_ready=ready)
        except OSError as problem:
            raise InputError(
                f"port {settings.port} of {HOST} cannot be used: {problem.strerror or problem}",
                hint="choose another with --port, or 0 for a free one",
            ) from None
    say("stopped", "stopped; every reply is in the ledger")
