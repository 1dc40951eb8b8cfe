"""The probe of ``amqpjobs health``, without typer: it runs every few seconds beside each worker.

typer, and pydantic which it imports, take most of a probe's processor time. So a command line that
has nothing but the options of `amqpjobs.cli.health` in their usual form is read here, and typer
reads all others. Changes when a probe looks at something else.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amqpjobs.cli.output import say
from amqpjobs.errors import ConfigurationError
from amqpjobs.telemetry.health.heartbeat_file import STALE, age_of, files_of, is_ok, state_of
from amqpjobs.telemetry.safe_text import printable

FILE = "AMQPJOBS_HEARTBEAT_FILE"


@dataclass(frozen=True, slots=True)
class Probe:
    """One look at the heartbeat files of a worker.

    Attributes:
        file: the heartbeat file, or the name that those of several processes share.
        max_age: seconds; older is not healthy.
        strict: whether any state but ``ok`` is not healthy.
    """

    file: Path | None
    max_age: float | None = None
    strict: bool = False

    def run(self) -> int:
        """Print the states, or what is wrong.

        Returns:
            The exit status: 0 for healthy, else 1.

        Raises:
            ConfigurationError: there is no file to look at.
        """
        if self.file is None or not self.file.name:  # `--file ""` is this folder
            raise ConfigurationError(
                "which file? set AMQPJOBS_HEARTBEAT_FILE for the worker and for this, "
                "or give --file"
            )
        states: list[str] = []
        for file in files_of(self.file):
            healthy, text = self._look_at(file)
            if not healthy:
                say(f"not healthy: {text}")
                return 1
            states.append(f"healthy: {text}")
        return _print("\n".join(map(printable, states)))

    def _look_at(self, file: Path) -> tuple[bool, str]:
        age = age_of(file)
        if age is None:
            return False, f"there is no {file}; no worker writes it"
        if age > (self.max_age or STALE):
            return False, f"{file} was touched {age:.0f} s ago"
        state = state_of(file)
        return is_ok(state) or not self.strict, f"{state}, {age:.0f} s ago"


def plain_probe(arguments: Sequence[str], environment: Mapping[str, str]) -> Probe | None:
    """The probe that a command line asks for.

    Args:
        arguments: without the program's name.
        environment: as `os.environ`.

    Returns:
        None for all other commands, for ``--help``, for mistakes, and for completion in a shell.
    """
    if list(arguments[:1]) != ["health"] or "_AMQPJOBS_COMPLETE" in environment:
        return None
    if environment.get("AMQPJOBS_DEBUG", "0") not in ("0", "1"):
        return None  # it is parsed, and may be a mistake
    found = _values(arguments[1:])
    if found is None:
        return None
    file, max_age = found.get("--file") or environment.get(FILE), found.get("--max-age")
    return Probe(
        Path(file) if file else None, float(max_age) if max_age else None, "--strict" in found
    )


def _values(arguments: Sequence[str]) -> dict[str, str] | None:
    """The options with their values; None if one is not of the usual form."""
    found: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name == "--strict" and not equals:
            found[name] = ""
            continue
        if not equals and rest:
            value = rest.pop(0)
        form = _FORMS.get(name)
        if form is None or not form.fullmatch(value):
            return None
        found[name] = value
    return found


_FORMS = {
    "--file": re.compile(r"[^-].*", re.DOTALL),
    "--max-age": re.compile(r"[1-9]\d{0,8}(\.\d+)?", re.ASCII),
}


def _print(text: str) -> int:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone. Python would try again at its exit, and end with 120.
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), sys.stdout.fileno())
        return 1
    return 0
