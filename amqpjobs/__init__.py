"""Jobs on RabbitMQ for asyncio: handlers bound to queues, competing workers, and no job lost."""

from typing import TYPE_CHECKING, Any

from amqpjobs.app import App
from amqpjobs.context import Context
from amqpjobs.job import INJECTED, Job
from amqpjobs.limits import KillSwitch
from amqpjobs.message import JobHandle, Message
from amqpjobs.retry import Retry
from amqpjobs.topology import Queue
from amqpjobs.verdicts import Reject, RetryAfter, Snooze

if TYPE_CHECKING:
    from fast_depends import Depends

__all__ = [
    "INJECTED",
    "App",
    "Context",
    "Depends",
    "Job",
    "JobHandle",
    "KillSwitch",
    "Message",
    "Queue",
    "Reject",
    "Retry",
    "RetryAfter",
    "Snooze",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # What only some programs need, and which takes long to import.
    if name == "Depends":
        from fast_depends import Depends

        return Depends
    if name == "__version__":
        from importlib.metadata import version

        return version("amqpjobs")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
