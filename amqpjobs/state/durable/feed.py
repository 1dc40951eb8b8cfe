"""The progress and the options of a map, as the row of its step stores them.

Changes when the row of a map stores something else.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

ON_RAISE, ON_COLLECT = "raise", "collect"


@dataclass(frozen=True, slots=True)
class Feed:
    """The cursor of the step of a map.

    Attributes:
        sent: items.
        chunks: messages.
        sealed: whether all items were sent: without it no map is complete, however many chunks have
            ended.
        total: items there are; None if that is not known.
        low: when so many are left of what is sent and has not ended, the next ones are sent.
        by_items: whether that counts items; else chunks.
        on_failure: ``raise``, ``collect``, or the share of items that may fail.
        prepare: what workers call before their first item, as ``module:name``.
        stragglers: a chunk is sent again that takes so many times as long as others.
    """

    sent: int = 0
    chunks: int = 0
    sealed: bool = False
    total: int | None = None
    low: int = 0
    by_items: bool = False
    on_failure: str | float = ON_RAISE
    prepare: str | None = None
    stragglers: float | None = None

    def text(self) -> str:
        """As a column has it."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None})

    @classmethod
    def of_text(cls, text: str | None) -> "Feed":
        """The other way round."""
        table: dict[str, Any] = json.loads(text or "{}")
        return cls(**{key: value for key, value in table.items() if key in cls.__slots__})

    def is_too_much(self, failed: int) -> bool:
        """Whether this number of failed items ends the map. A share of the items does not end it
        until their total is known."""
        if not failed or self.on_failure == ON_COLLECT:
            return False
        if isinstance(self.on_failure, str):
            return True
        total = self.sent if self.sealed else self.total
        return total is not None and failed > self.on_failure * total
