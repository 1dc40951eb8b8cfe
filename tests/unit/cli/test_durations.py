"""Options that are durations take units, keep their bounds, and are all there are."""

import inspect
import re
from collections.abc import Iterator
from typing import Annotated, Any, get_origin

import pytest
import typer
from typer.testing import CliRunner

from amqpjobs.cli.dead.options import selection_of
from amqpjobs.cli.duration_option import duration_option
from amqpjobs.cli.program import program_for
from amqpjobs.errors import ConfigurationError


def asked(*arguments: str, **bounds: Any) -> tuple[int, str]:
    """What a command with such an option makes of it: status, and all that it prints."""
    program = typer.Typer(rich_markup_mode=None)

    def command(wait: float = duration_option("--wait", "How long.", **bounds)) -> None:
        typer.echo(repr(wait))

    program.command()(command)
    done = CliRunner().invoke(program, arguments)
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("given", "seconds"), [("90", 90.0), ("90s", 90.0), ("1h30m", 5400.0), ("0", 0.0)]
)
def test_a_duration_has_a_unit_or_is_seconds(given: str, seconds: float) -> None:
    """As in settings."""
    assert asked("--wait", given) == (0, f"{seconds!r}\n")


@pytest.mark.parametrize("given", ["soon", "1 month", "", "-1"])
def test_another_text_is_a_mistake_that_says_what_to_write(given: str) -> None:
    """With the option's name."""
    status, said = asked(f"--wait={given}")
    assert status == 2
    assert "--wait" in said
    assert ("500ms, 90s, 5m, 1h30m or 7d" in said) == (given != "-1")
    assert ("'-1' is not 0 s or more" in said) == (given == "-1")


def test_bounds_hold_for_all_forms() -> None:
    """And are named."""
    for given in ("500ms", "2h", "nan"):
        status, said = asked("--wait", given, least=1, most=3600)
        assert status == 2
        assert "is not from 1 s to 1 h" in said


def options_of(program: typer.Typer) -> Iterator[tuple[Any, Any]]:
    """The type and the option of each parameter of all commands."""
    for command in program.registered_commands:
        assert command.callback is not None
        for given in inspect.signature(command.callback).parameters.values():
            if get_origin(given.annotation) is Annotated:
                yield given.annotation.__origin__, given.annotation.__metadata__[0]
    for group in program.registered_groups:
        assert group.typer_instance is not None
        yield from options_of(group.typer_instance)


def test_no_option_is_a_duration_without_units() -> None:
    """A number with a point is a rate, or a duration."""
    numbers = [option for kind, option in options_of(program_for()) if "float" in str(kind)]
    # In an annotation the name is where the default would be.
    assert {option.default for option in numbers if option.parser is None} == {"--rate"}
    assert {"--wait", "--expires", "--delay", "--max-age", "--longest-delay", "--patience"} <= {
        option.default for option in numbers
    }


@pytest.mark.parametrize(
    ("given", "before"), [("2h", 7200), ("1h30m ago", 5400), ("2 min", 120), ("7d", 604_800)]
)
def test_since_takes_the_same(given: str, before: float) -> None:
    """A duration before now."""
    since = selection_of(None, None, None, None, given, None).since
    now = selection_of(None, None, None, None, "0s", None).since
    assert since is not None
    assert now is not None
    assert now - since == pytest.approx(before, abs=5)


def test_since_takes_a_date_without_dashes() -> None:
    """ISO 8601: no number of seconds."""
    assert selection_of(None, None, None, None, "20260131", None).since == 1_769_817_600.0


def test_since_does_not_guess() -> None:
    """It says what to write."""
    with pytest.raises(ConfigurationError, match=re.escape("such as 30m, 2h or 7d")):
        selection_of(None, None, None, None, "last week", None)
