"""Every help text, word for word; ``python -m tests.cli.test_help`` writes them anew."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rlaif.cli.main import app

TEXTS = Path(__file__).parent / "help"


def commands(command: object, name: str = "rlaif") -> list[str]:
    """Names of a command and of all below it, words joined by spaces."""
    below = getattr(command, "commands", {})
    return [name, *(line for key, one in below.items() for line in commands(one, f"{name} {key}"))]


COMMANDS = commands(typer.main.get_command(app))


def help_text(command: str) -> str:
    done = CliRunner().invoke(
        app,
        [*command.split()[1:], "--help"],
        env={"TERM": "dumb", "TERMINAL_WIDTH": "80", "COLUMNS": "80", "NO_COLOR": "1"},
        prog_name="rlaif",
    )
    assert done.exit_code == 0, done.output
    return "\n".join(line.rstrip() for line in done.output.strip().splitlines()) + "\n"


def file_of(command: str) -> Path:
    return TEXTS / f"{command.replace(' ', '-')}.txt"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_is_recorded(command: str) -> None:
    assert help_text(command) == file_of(command).read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_eighty_columns(command: str) -> None:
    lines = file_of(command).read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 80


def test_every_recorded_help_text_belongs_to_a_command() -> None:
    assert {path.name for path in TEXTS.iterdir()} == {file_of(one).name for one in COMMANDS}


if __name__ == "__main__":
    TEXTS.mkdir(exist_ok=True)
    for path in TEXTS.iterdir():
        path.unlink()
    for command in COMMANDS:
        file_of(command).write_text(help_text(command), encoding="utf-8")
