"""Ids of jobs that follow from the request, so that the same request twice is known by its id.

Changes when what an id follows from does.
"""

import json
import time
import uuid
from collections import OrderedDict

NAMESPACE = uuid.UUID("5f0e3a52-6a9b-5f1c-9d3e-6b1c8e3f7a10")
"""Of the ids below. Any change to it, or to how it is used, makes old duplicates new jobs."""

MOST = 100_000
"""Proofs that one process remembers for one hook; beyond it the oldest are forgotten."""


def derived_id(*parts: str) -> str:
    """A UUID of version 5 (RFC 9562): the same parts give the same id, in every process."""
    return str(uuid.uuid5(NAMESPACE, json.dumps(parts)))


class Replays:
    """The proofs that this process has seen, as long as their replay would pass for new.

    Other processes have seen others: what they let pass has the same id of the job.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, key: str, until: float | None) -> bool:
        """Remember a proof; false if it is here already.

        Args:
            key: what a replay has in common with it.
            until: seconds since the epoch; None to keep it as long as there is room.
        """
        if key in self._seen:
            return False
        now = time.time()
        while self._seen and (len(self._seen) >= MOST or next(iter(self._seen.values())) < now):
            self._seen.popitem(last=False)
        self._seen[key] = float("inf") if until is None else until
        return True

    def forget(self, key: str) -> None:
        """What was not enqueued may come again."""
        self._seen.pop(key, None)
