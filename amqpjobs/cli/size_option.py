"""Options that are sizes: ``--max-memory 1GiB``. Changes when there is another form."""

from typing import Any

import typer

from amqpjobs.settings import SIZE_FORMS, bytes_of


def size_option(name: str, help_text: str) -> Any:
    """A `typer.Option` whose value is a number of bytes above 0.

    Args:
        name: such as ``--max-memory``.
        help_text: what it is for.
    """

    def parsed(given: str | int) -> int:
        size = given if isinstance(given, int) else bytes_of(given)
        if size is None or size < 1:
            raise typer.BadParameter(f"{given!r} is no size above 0: give {SIZE_FORMS}")
        return size

    return typer.Option(name, parser=parsed, metavar="SIZE", help=help_text)
