"""Options that are durations: ``--wait 90``, ``--wait 90s``, ``--wait 1h30m``.

Changes when the command line takes another form of them.
"""

from typing import Any

import typer

from amqpjobs.jobs.durations import duration_words
from amqpjobs.settings import FORMS, seconds_of


def duration_option(
    name: str, help_text: str, *, least: float = 0.0, most: float | None = None
) -> Any:
    """A `typer.Option` whose value is a number of seconds.

    Args:
        name: such as ``--wait``.
        help_text: what it is for.
        least: seconds.
        most: seconds; None for no end.
    """

    def parsed(given: str | float) -> float:
        seconds = given if isinstance(given, int | float) else seconds_of(given)
        if seconds is None:
            raise typer.BadParameter(f"{given!r} is no duration: give {FORMS}")
        if not seconds >= least or (most is not None and seconds > most):
            bounds = (
                f"{least:g} s or more"
                if most is None
                else f"from {least:g} s to {duration_words(most)}"
            )
            raise typer.BadParameter(f"{given!r} is not {bounds}")
        return seconds

    return typer.Option(name, parser=parsed, metavar="DURATION", help=help_text)
