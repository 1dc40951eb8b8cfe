"""Schedules as JSON, as the store keeps them.

Changes when a schedule has another option: then `VERSION` is one more, and `schedule_of` still
reads the earlier ones.
"""

from collections.abc import Mapping
from typing import Any, Final

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.schedule.schedule import (
    Cron,
    Every,
    Schedule,
    jitter_of,
    within_of,
    zone_name_of,
)

VERSION: Final = 1

_CRON: Final = {"expression": str, "tz": str}
_EVERY: Final = {"seconds": int}
_POLICY: Final[Mapping[str, type | tuple[type, ...]]] = {
    "missed": str, "within": (int, float), "overlap": str, "jitter": (int, float),
    "name": (str, type(None)),
}  # fmt: skip


def spec_of(schedule: Schedule) -> dict[str, Any]:
    """A schedule as JSON: the same for equal schedules, in every process and release.

    Example:
        >>> spec_of(Every(minutes=5))["seconds"]
        300
    """
    spec: dict[str, Any] = {"version": VERSION}
    if isinstance(schedule, Cron):
        spec |= {
            "kind": "cron", "expression": schedule.expression, "tz": zone_name_of(schedule)
        }  # fmt: skip
    else:
        spec |= {"kind": "every", "seconds": schedule.period}
    return spec | {
        "missed": schedule.missed,
        "within": _number(within_of(schedule)),
        "overlap": schedule.overlap,
        "jitter": _number(jitter_of(schedule)),
        "name": schedule.name,
    }


def schedule_of(spec: Mapping[str, Any]) -> Schedule:
    """The schedule that JSON describes; an option that it does not name is as by default.

    Raises:
        ConfigurationError: a version or a field that is unknown here, as of a newer release, or a
            value that cannot be; says which.
    """
    if not isinstance(spec, Mapping):
        raise ConfigurationError(f"a schedule is stored as an object, not as {spec!r:.100}")
    version, kind = spec.get("version"), spec.get("kind")
    if version != VERSION or type(version) is not int:
        raise ConfigurationError(
            f"a stored schedule is of version {version!r:.100}, and this release reads {VERSION}: "
            "update amqpjobs here"
        )
    if kind not in ("cron", "every"):
        raise ConfigurationError(f"a stored schedule is of kind {kind!r:.100}, not cron or every")
    types = {**(_CRON if kind == "cron" else _EVERY), **_POLICY}
    given = {name: value for name, value in spec.items() if name not in ("version", "kind")}
    if unknown := sorted(map(str, given.keys() - types.keys())):
        raise ConfigurationError(
            f"a stored schedule has fields that are unknown here: {', '.join(unknown):.200}"
        )
    for name, value in given.items():
        if not isinstance(value, types[name]) or isinstance(value, bool):
            raise ConfigurationError(f"a stored schedule has {name}={value!r:.100}")
    first = "expression" if kind == "cron" else "seconds"
    if first not in given:
        raise ConfigurationError(f"a stored schedule of kind {kind} has no {first}")
    return Cron(**given) if kind == "cron" else Every(**given)


def _number(value: float) -> int | float:
    """A whole number as one: JSON tells 60 from 60.0."""
    return int(value) if value.is_integer() else value
