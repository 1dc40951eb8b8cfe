"""Confirms put together: many publishes are answered by one frame, as RabbitMQ does it.

Changes when the rule by which they are put together does.
"""


class AnsweredPublishes:
    """Which publishes of a channel have been answered. It tells runs from gaps.

    `basic.ack` with `multiple` speaks for all up to its tag. So it may only be said when none of
    them is still to be answered, or never will be.
    """

    __slots__ = ("_ahead", "_up_to")

    def __init__(self) -> None:
        self._up_to = 0  # this one and all before it
        self._ahead: set[int] = set()  # behind a gap

    def __repr__(self) -> str:
        return f"<AnsweredPublishes up to {self._up_to}, {len(self._ahead)} ahead>"

    def one(self, tag: int) -> None:
        """That one has been answered by a frame of its own."""
        self._ahead.add(tag)
        self._close_gap()

    def runs(self, tags: list[int]) -> list[tuple[int, bool]]:
        """The tags to say, each with whether it speaks for all before it.

        Args:
            tags: what is confirmed now, each once; it is sorted in place.
        """
        tags.sort()  # they nearly always are
        if not self._ahead and tags[0] == self._up_to + 1 and tags[-1] == self._up_to + len(tags):
            self._up_to = tags[-1]
            return [(tags[-1], len(tags) > 1)]
        before = self._up_to
        self._ahead.update(tags)
        self._close_gap()
        behind_gap = [(tag, False) for tag in tags if tag > self._up_to]
        in_run = len(tags) - len(behind_gap)
        if not in_run:
            return behind_gap
        last = tags[in_run - 1]
        return [(last, last > before + 1), *behind_gap]

    def _close_gap(self) -> None:
        while self._up_to + 1 in self._ahead:
            self._up_to += 1
            self._ahead.remove(self._up_to)
