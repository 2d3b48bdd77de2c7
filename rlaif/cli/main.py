"""The entry point: verbs, and the one place where errors become messages and exit codes."""

import os
import sys
from pathlib import Path

import typer

from rlaif.cli import (
    audit,
    check,
    constitution,
    doctor,
    evaluate,
    export,
    generate,
    init,
    loop,
    relabel,
    serve,
    serve_reward,
    status,
    train,
)
from rlaif.cli.output import make_diagnostics_safe, print
from rlaif.errors import RlaifError
from rlaif.runs.files import cannot_write, is_refused
from rlaif.runs.text import safe_text

app = typer.Typer(
    name="rlaif",
    help="Constitutions, AI-labelled preferences, trainers, measured self-improvement.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("init")(init.init)
app.add_typer(constitution.app, name="constitution")
app.command("check")(check.check)
app.command("generate")(generate.generate)
app.command("status")(status.status)
app.command("relabel")(relabel.relabel)
app.command("reparse")(relabel.reparse)
app.command("export")(export.export)
app.add_typer(train.app, name="train")
app.command("audit")(audit.audit)
app.command("evaluate")(evaluate.evaluate)
app.command("loop")(loop.loop)
app.command("serve", context_settings={"allow_extra_args": True})(serve.serve)
app.command("serve-reward")(serve_reward.serve_reward)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line and exit with the code its errors name."""
    make_diagnostics_safe()
    try:
        code = _run()
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted: repeat the command to resume", file=sys.stderr)
        code = 130
    sys.exit(code)


def _run() -> int:
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except RlaifError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return problem.exit_code
    except BrokenPipeError:
        _drop_output()
        return 1  # as typer does where it sees it first
    except OSError as problem:
        if not is_refused(problem):
            raise
        place = Path(problem.filename or "what the command writes")
        print(f"error: {cannot_write(place, problem)}", file=sys.stderr)
        _drop_output()
        return 1
    except typer.TyperException as problem:
        show = getattr(problem, "show", None)
        if show is None:
            print(f"error: {problem}", file=sys.stderr)
        else:
            problem.message = safe_text(problem.message)
            show()
        return 2
    return code if isinstance(code, int) else 0


def _drop_output() -> None:
    """Write what was printed, or drop it if the reader has closed the pipe.

    The interpreter would try again at its end, complain, and exit with another code.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
