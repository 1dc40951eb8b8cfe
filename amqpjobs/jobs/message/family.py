"""Whose part a job is: the durable job that waits for it, and by which of its steps.

Changes when a durable job has another kind of part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from amqpjobs.jobs.message.properties import FieldValue, is_whole

Part: TypeAlias = Literal["call", "undo", "chunk", "item", "reduce"]
"""What a job is to its parent. A chunk is a message with several items of a map."""

PARTS: Final[Mapping[str, Part]] = {part: part for part in get_args(Part)}

OF_MAPS: Final = frozenset({"chunk", "item", "reduce"})
"""Parts that are rows of a map, and no steps of their own."""

LONGEST_NAME: Final = 200
"""Characters of the name of a step."""

LARGEST: Final = 2**31 - 1
"""Of an epoch, and of a number of a part: a column of the store has no more."""


@dataclass(frozen=True, slots=True)
class Family:
    """Whose part a job is.

    Attributes:
        parent: the id of the durable job.
        epoch: of that job, when it sent this one.
        step: the name of the step that waits for it.
        part: what it is there.
        n: its number, of several.
    """

    parent: str
    epoch: int
    step: str
    part: Part = "call"
    n: int = 0


def family_table(family: Family) -> dict[str, FieldValue]:
    """As a header has it."""
    return {
        "id": family.parent, "epoch": family.epoch, "step": family.step, "part": family.part,
        "n": family.n,
    }  # fmt: skip


def family_from(table: FieldValue) -> Family | None:
    """What a header says; None if it makes no sense: any program may have written it. Then nobody
    is told of the end of the job."""
    if not isinstance(table, Mapping):
        return None
    parent, step, part = table.get("id"), table.get("step"), table.get("part")
    epoch, n = table.get("epoch"), table.get("n")
    if not (isinstance(parent, str) and isinstance(step, str) and isinstance(part, str)):
        return None
    if not (0 < len(parent) <= 255 and 0 < len(step) <= LONGEST_NAME and part in PARTS):
        return None
    if "\0" in parent or "\0" in step:
        return None  # PostgreSQL has no such text
    if not (is_whole(epoch) and 0 <= epoch <= LARGEST and is_whole(n) and 0 <= n <= LARGEST):
        return None
    return Family(parent, epoch, step, PARTS[part], n)
