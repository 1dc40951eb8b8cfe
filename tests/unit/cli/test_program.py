"""The commands of the program: each is found, and a command imports no other."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from amqpjobs.cli.program import program_for


def commands_of(program: typer.Typer) -> list[str]:
    return list(typer.main.get_command(program).commands)  # type: ignore[attr-defined]


ALL = commands_of(program_for())


@pytest.mark.parametrize("command", ALL)
def test_a_command_that_is_run_is_there_alone(command: str) -> None:
    """The others are not imported for it."""
    assert commands_of(program_for(command)) == [command]


@pytest.mark.parametrize("command", [None, "--help", "--debug", "consumee", ""])
def test_all_are_there_for_all_else(command: str | None) -> None:
    """Help lists them, and mistakes are compared with them."""
    assert commands_of(program_for(command)) == ALL
    assert {"consume", "dead", "topology", "record"} <= set(ALL)


def help_of(*arguments: str) -> str:
    """At 80 columns."""
    done = CliRunner().invoke(program_for(), [*arguments, "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    return done.output


def test_help_has_each_command_once_under_a_heading() -> None:
    """By what a person wants to do."""
    listed = help_of().partition("Work:\n")[2]
    headings = [line for line in listed.splitlines() if line and not line.startswith(" ")]
    assert headings == ["Look:", "Operate:", "Develop:", "Deploy:"]
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("  ")]
    assert sorted(names) == sorted(ALL)


@pytest.mark.parametrize(
    "group", ["", "dead", "delayed", "deploy", "outbox", "schedules", "topology"]
)
def test_no_line_of_help_is_cut(group: str) -> None:
    """Neither by an ellipsis nor by going on in the next line, at 80 columns."""
    text = help_of(*filter(None, [group]))
    listed = text.partition("Work:\n" if not group else "Commands:\n")[2]
    lines = [line for line in listed.splitlines() if line.startswith("  ")]
    assert lines
    for line in lines:
        assert not line.startswith("   "), line
        assert "..." not in line, line
        assert len(line) <= 80, line


def test_help_says_what_a_duration_is() -> None:
    """Once, for the options of all commands."""
    assert "500ms, 90s, 5m, 1h30m, 7d" in " ".join(help_of().split())
    assert "--wait DURATION" in help_of("consume")


def test_a_worker_imports_no_other_command() -> None:
    """With all commands it starts a fifth later."""
    others = ("dead", "deploy", "chaos", "guide", "new", "bench", "doctor", "topology", "web")
    code = (
        "import sys; sys.argv = ['amqpjobs', 'consume']\n"
        "from amqpjobs.cli.main import main\n"
        "try: main()\n"
        f"finally: print([n for n in {others!r} if f'amqpjobs.cli.{{n}}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "[]\n")
    assert "which app?" in done.stderr
