"""The relation of a job to the durable job that waits for it: the parent, its step, the part.

Changes when a durable job has another kind of part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from amqpjobs.jobs.message.properties import FieldValue, is_whole

Part: TypeAlias = Literal["call", "undo", "chunk", "item", "reduce"]
"""The role of a job for its parent. A chunk is a message with several items of a map."""

PARTS: Final[Mapping[str, Part]] = {part: part for part in get_args(Part)}

OF_MAPS: Final = frozenset({"chunk", "item", "reduce"})
"""Parts that are rows of a map, not steps of their own."""

LONGEST_NAME: Final = 200
"""Characters of the name of a step."""

LARGEST: Final = 2**31 - 1
"""The largest epoch, and the largest number of a part: the limit of a column in the store."""


@dataclass(frozen=True, slots=True)
class Family:
    """The durable job that waits for a job, and the step that does.

    Attributes:
        parent: the id of the durable job.
        epoch: the epoch of the parent when it sent this job.
        step: the name of the step that waits for this job.
        part: the role of this job for the step.
        n: the number of this job, if the step has several.
    """

    parent: str
    epoch: int
    step: str
    part: Part = "call"
    n: int = 0


def family_table(family: Family) -> dict[str, FieldValue]:
    """The table for the header."""
    return {
        "id": family.parent, "epoch": family.epoch, "step": family.step, "part": family.part,
        "n": family.n,
    }  # fmt: skip


def family_from(table: FieldValue) -> Family | None:
    """Read the table of a header. Any program may have written it, so a malformed one gives None.
    Then no durable job is notified of the end of this job."""
    if not isinstance(table, Mapping):
        return None
    parent, step, part = table.get("id"), table.get("step"), table.get("part")
    epoch, n = table.get("epoch"), table.get("n")
    if not (isinstance(parent, str) and isinstance(step, str) and isinstance(part, str)):
        return None
    if not (0 < len(parent) <= 255 and 0 < len(step) <= LONGEST_NAME and part in PARTS):
        return None
    if "\0" in parent or "\0" in step:
        return None  # PostgreSQL cannot store such a text
    if not (is_whole(epoch) and 0 <= epoch <= LARGEST and is_whole(n) and 0 <= n <= LARGEST):
        return None
    return Family(parent, epoch, step, PARTS[part], n)
