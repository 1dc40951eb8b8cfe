"""Time zones by their names in the IANA database. Changes when a zone is found in another way."""

from datetime import UTC as UTC_ZONE
from datetime import tzinfo
from typing import Final

UTC: Final = "UTC"

LONGEST_NAME: Final = 64
"""Characters; the longest of the database has 30."""

_OF_ONE_MACHINE: Final = ("localtime", "posix/", "posixrules", "right/")
"""What the folder of a machine has beside the zones: its own zone, and other ways to count."""


def zone_named(name: str) -> tzinfo | None:
    """The zone of this name; None if there is none on this machine. It may be a stranger's text.

    UTC needs no database: slim containers have none.
    """
    if name == UTC:
        return UTC_ZONE
    if not 1 <= len(name) <= LONGEST_NAME or name.startswith(_OF_ONE_MACHINE):
        return None
    from zoneinfo import ZoneInfo  # here: reads files, and only schedules need it

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not there, a path, a folder
        return None


def all_zones() -> list[str]:
    """The names of all zones of this machine, sorted; empty where there is no database. It looks
    through folders: for messages only."""
    from zoneinfo import available_timezones

    return sorted(n for n in available_timezones() if not n.startswith(_OF_ONE_MACHINE))
