"""Jobs on RabbitMQ for asyncio: handlers bound to queues, competing workers, and no job lost."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fast_depends import Depends

    from amqpjobs import errors as errors
    from amqpjobs.app import App
    from amqpjobs.context import Context
    from amqpjobs.job import INJECTED, Job
    from amqpjobs.limits import KillSwitch
    from amqpjobs.message import JobHandle, Message
    from amqpjobs.retry import Retry
    from amqpjobs.topology import Queue
    from amqpjobs.verdicts import Reject, RetryAfter, Snooze

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


_HOMES: Final = {
    "INJECTED": "amqpjobs.job",
    "App": "amqpjobs.app",
    "Context": "amqpjobs.context",
    "Depends": "fast_depends",
    "Job": "amqpjobs.job",
    "JobHandle": "amqpjobs.message",
    "KillSwitch": "amqpjobs.limits",
    "Message": "amqpjobs.message",
    "Queue": "amqpjobs.topology",
    "Reject": "amqpjobs.verdicts",
    "Retry": "amqpjobs.retry",
    "RetryAfter": "amqpjobs.verdicts",
    "Snooze": "amqpjobs.verdicts",
}


def __getattr__(name: str) -> Any:
    # On first use: who imports `amqpjobs.embedded` or the pytest plugin pays for no app.
    if name in _HOMES:
        found = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return found
    if name == "errors":
        return import_module("amqpjobs.errors")
    if name == "__version__":
        from importlib.metadata import version

        return version("amqpjobs")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
