"""Connections in a process that was forked: they are its parent's, and let go of.

Two processes on one connection would read each other's frames; and a child that lives longer than
its parent would keep the connection open, so that RabbitMQ would notice the parent's end by missed
heartbeats only. Changes when something else must not be shared.
"""

import os
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet


class Droppable(Protocol):
    """A connection."""

    def drop(self) -> None:
        """Leave without the event loop."""


_open: "WeakSet[Droppable]" = WeakSet()
_hooked = False


def dropped_in_children(connection: Droppable) -> None:
    """Have a connection dropped in processes that are forked from here on."""
    global _hooked
    if not _hooked:
        _hooked = True
        os.register_at_fork(after_in_child=_drop_all)
    _open.add(connection)


def _drop_all() -> None:
    connections = list(_open)
    _open.clear()
    for connection in connections:
        with suppress(Exception):
            connection.drop()
