"""What a look at the store has found. Changes when a finding says something else."""

from typing import Literal, NamedTuple, TypeAlias

State: TypeAlias = Literal["ok", "warning", "error"]


class Finding(NamedTuple):
    """One thing that was found.

    Attributes:
        check: what was looked at: ``store``, ``outbox``.
        state: how it is.
        text: what was found.
        fix: what to do about it; empty where all is well.
    """

    check: str
    state: State
    text: str
    fix: str = ""
