"""What the doctor finds. Changes when a finding says something else."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        fix: what to do about it; empty when all is well.
    """

    check: str
    state: Literal["ok", "warning", "error"]
    finding: str
    fix: str = ""
