"""Jobs on RabbitMQ for asyncio: handlers bound to queues, competing workers, and no job lost."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fast_depends import Depends

    from amqpjobs import errors as errors
    from amqpjobs.app import App
    from amqpjobs.client.deadletters.selection import Selection
    from amqpjobs.jobs.context import Context
    from amqpjobs.jobs.job import INJECTED, Job
    from amqpjobs.jobs.message.message import JobHandle, Message
    from amqpjobs.jobs.queue.limits import KillSwitch
    from amqpjobs.jobs.queue.queue import Queue
    from amqpjobs.jobs.retry import Retry
    from amqpjobs.jobs.verdicts import Reject, RetryAfter, Snooze
    from amqpjobs.jobs.webhook import GITHUB, SIGNED, Signing

__all__ = [
    "GITHUB",
    "INJECTED",
    "SIGNED",
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
    "Selection",
    "Signing",
    "Snooze",
    "__version__",
]


_HOMES: Final = {
    "Signing": "amqpjobs.jobs.webhook",
    "GITHUB": "amqpjobs.jobs.webhook",
    "SIGNED": "amqpjobs.jobs.webhook",
    "Selection": "amqpjobs.client.deadletters.selection",
    "INJECTED": "amqpjobs.jobs.job",
    "App": "amqpjobs.app",
    "Context": "amqpjobs.jobs.context",
    "Depends": "fast_depends",
    "Job": "amqpjobs.jobs.job",
    "JobHandle": "amqpjobs.jobs.message.message",
    "KillSwitch": "amqpjobs.jobs.queue.limits",
    "Message": "amqpjobs.jobs.message.message",
    "Queue": "amqpjobs.jobs.queue.queue",
    "Reject": "amqpjobs.jobs.verdicts",
    "Retry": "amqpjobs.jobs.retry",
    "RetryAfter": "amqpjobs.jobs.verdicts",
    "Snooze": "amqpjobs.jobs.verdicts",
}


def __getattr__(name: str) -> Any:
    # On first use: who imports `amqpjobs.broker.embedded` or the pytest plugin pays for no app.
    if name in _HOMES:
        found = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return found
    if name == "errors":
        return import_module("amqpjobs.errors")
    if name == "__version__":
        from importlib.metadata import version

        return version("amqpjobs")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
