"""The steps of a durable job in a header of its message, for workers without a store.

Changes when a step carries something else; `amqpjobs.jobs.message.headers` has the header.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from amqpjobs.jobs.message.family import LONGEST_NAME
from amqpjobs.jobs.message.properties import FieldValue

LARGEST_STEPS: Final = 8192
"""Bytes of all steps of a message. The headers of a copy must stay far below a frame."""

MARK: Final = 16
"""Characters of the hash of a step's arguments."""

CarriedKind: TypeAlias = Literal["step", "each"]

KINDS: Final[Mapping[str, CarriedKind]] = {kind: kind for kind in get_args(CarriedKind)}


class CarriedStep(NamedTuple):
    """One step.

    Attributes:
        name: of the step.
        kind: a step or a loop.
        mark: the hash of its arguments, `MARK` characters; "" for a loop.
        result: as JSON; None if it is not done.
        cursor: of a loop, as JSON; None if it has none yet.
    """

    name: str
    kind: CarriedKind
    mark: str = ""
    result: str | None = None
    cursor: str | None = None


def steps_table(steps: Iterable[CarriedStep]) -> FieldValue:
    """The value of the header."""
    return [
        {key: value for key, value in step._asdict().items() if value not in (None, "")}
        for step in steps
    ]


def size_of(step: CarriedStep) -> int:
    """Bytes that a step takes in the header, or a few less: the overhead of AMQP counts as 7 bytes
    a value."""
    texts = {key: value for key, value in step._asdict().items() if value}
    return 5 + sum(len(key) + len(value.encode()) + 7 for key, value in texts.items())


def steps_from(value: FieldValue) -> list[CarriedStep]:
    """Read the header: the steps in the order in which they began. A malformed step is left out and
    is executed again. The header is trusted as much as the arguments: the same programs can write
    both."""
    entries = value if isinstance(value, list | tuple) else ()
    found: dict[str, CarriedStep] = {}
    room = LARGEST_STEPS
    for entry in entries:
        step = _step_from(entry)
        if step is None or (room := room - size_of(step)) < 0:
            continue
        found.setdefault(step.name, step)
    return list(found.values())


def _step_from(entry: object) -> CarriedStep | None:
    if not isinstance(entry, Mapping):
        return None
    name, kind = entry.get("name"), entry.get("kind")
    mark, result, cursor = entry.get("mark", ""), entry.get("result"), entry.get("cursor")
    if not (isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and isinstance(kind, str)):
        return None
    if kind not in KINDS or not isinstance(mark, str) or len(mark) > MARK:
        return None
    if not isinstance(result, str | None) or not isinstance(cursor, str | None):
        return None
    return CarriedStep(name, KINDS[kind], mark, result, cursor)
