"""The worker: takes deliveries, runs jobs, and settles each delivery exactly once.

``Worker(app, ["queue"])`` runs one inside another program: ``await worker.run()`` until
``worker.stop()``. The command line is the usual way.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amqpjobs.worker.worker import Worker

__all__ = ["Worker"]


def __getattr__(name: str) -> Any:
    # On demand: the modules of this package are imported one by one by whoever needs one.
    if name == "Worker":
        from amqpjobs.worker.worker import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
