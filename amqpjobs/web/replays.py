"""Remembers requests that must not be done twice. Their ids follow from them:
`amqpjobs.jobs.message.ids`.

Changes when a replay can be told otherwise.
"""

import time
from collections import OrderedDict

MOST = 100_000
"""Proofs that one process remembers for one hook; beyond it the oldest are forgotten."""


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
