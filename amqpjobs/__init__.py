"""Jobs on RabbitMQ for asyncio: handlers bound to queues, competing workers, and no job lost."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fast_depends import Depends

    from amqpjobs import errors as errors
    from amqpjobs.app import App
    from amqpjobs.client.deadletters.selection import Selection
    from amqpjobs.errors import BatchFailed
    from amqpjobs.jobs.batch import Batch
    from amqpjobs.jobs.context import Context
    from amqpjobs.jobs.durable.status import DurableStatus, StepStatus
    from amqpjobs.jobs.ending import Ended
    from amqpjobs.jobs.exclusion.limit import Limit
    from amqpjobs.jobs.exclusion.unique import Debounce, Unique
    from amqpjobs.jobs.job import INJECTED, Job
    from amqpjobs.jobs.message.bodies import Body, Bytes, Json, MsgPack, Text
    from amqpjobs.jobs.message.cloud_event import CloudEvent, CloudEventOf
    from amqpjobs.jobs.message.handle import BlockingJobHandle, JobHandle
    from amqpjobs.jobs.message.message import Message, Pipeline
    from amqpjobs.jobs.message.origin import Event
    from amqpjobs.jobs.message.pipeline import group
    from amqpjobs.jobs.message.status import JobStatus
    from amqpjobs.jobs.message.tick import Tick
    from amqpjobs.jobs.message.why import Why
    from amqpjobs.jobs.queue.exchange import Exchange
    from amqpjobs.jobs.queue.limits import KillSwitch
    from amqpjobs.jobs.queue.queue import Queue
    from amqpjobs.jobs.retry import Retry
    from amqpjobs.jobs.router import Router
    from amqpjobs.jobs.schedule.schedule import Cron, Every
    from amqpjobs.jobs.schedule.status import ScheduleStatus, TickRecord
    from amqpjobs.jobs.verdicts import Reject, RetryAfter, Snooze, Undo
    from amqpjobs.jobs.webhook import GITHUB, SIGNED, SLACK, STANDARD_WEBHOOKS, STRIPE, Signing

__all__ = [
    "GITHUB",
    "INJECTED",
    "SIGNED",
    "SLACK",
    "STANDARD_WEBHOOKS",
    "STRIPE",
    "App",
    "Batch",
    "BatchFailed",
    "BlockingJobHandle",
    "Body",
    "Bytes",
    "CloudEvent",
    "CloudEventOf",
    "Context",
    "Cron",
    "Debounce",
    "Depends",
    "DurableStatus",
    "Ended",
    "Event",
    "Every",
    "Exchange",
    "Job",
    "JobHandle",
    "JobStatus",
    "Json",
    "KillSwitch",
    "Limit",
    "Message",
    "MsgPack",
    "Pipeline",
    "Queue",
    "Reject",
    "Retry",
    "RetryAfter",
    "Router",
    "ScheduleStatus",
    "Selection",
    "Signing",
    "Snooze",
    "StepStatus",
    "Text",
    "Tick",
    "TickRecord",
    "Undo",
    "Unique",
    "Why",
    "__version__",
    "group",
]


_HOMES: Final = {
    "Signing": "amqpjobs.jobs.webhook",
    "GITHUB": "amqpjobs.jobs.webhook",
    "SIGNED": "amqpjobs.jobs.webhook",
    "SLACK": "amqpjobs.jobs.webhook",
    "STANDARD_WEBHOOKS": "amqpjobs.jobs.webhook",
    "STRIPE": "amqpjobs.jobs.webhook",
    "Selection": "amqpjobs.client.deadletters.selection",
    "INJECTED": "amqpjobs.jobs.job",
    "App": "amqpjobs.app",
    "Batch": "amqpjobs.jobs.batch",
    "BatchFailed": "amqpjobs.errors",
    "Body": "amqpjobs.jobs.message.bodies",
    "Bytes": "amqpjobs.jobs.message.bodies",
    "CloudEvent": "amqpjobs.jobs.message.cloud_event",
    "CloudEventOf": "amqpjobs.jobs.message.cloud_event",
    "Context": "amqpjobs.jobs.context",
    "Cron": "amqpjobs.jobs.schedule.schedule",
    "Debounce": "amqpjobs.jobs.exclusion.unique",
    "Depends": "fast_depends",
    "DurableStatus": "amqpjobs.jobs.durable.status",
    "Ended": "amqpjobs.jobs.ending",
    "Event": "amqpjobs.jobs.message.origin",
    "Every": "amqpjobs.jobs.schedule.schedule",
    "Exchange": "amqpjobs.jobs.queue.exchange",
    "Job": "amqpjobs.jobs.job",
    "BlockingJobHandle": "amqpjobs.jobs.message.handle",
    "JobHandle": "amqpjobs.jobs.message.handle",
    "JobStatus": "amqpjobs.jobs.message.status",
    "Json": "amqpjobs.jobs.message.bodies",
    "KillSwitch": "amqpjobs.jobs.queue.limits",
    "Limit": "amqpjobs.jobs.exclusion.limit",
    "Message": "amqpjobs.jobs.message.message",
    "MsgPack": "amqpjobs.jobs.message.bodies",
    "Pipeline": "amqpjobs.jobs.message.message",
    "group": "amqpjobs.jobs.message.pipeline",
    "Queue": "amqpjobs.jobs.queue.queue",
    "Reject": "amqpjobs.jobs.verdicts",
    "Retry": "amqpjobs.jobs.retry",
    "RetryAfter": "amqpjobs.jobs.verdicts",
    "Router": "amqpjobs.jobs.router",
    "ScheduleStatus": "amqpjobs.jobs.schedule.status",
    "TickRecord": "amqpjobs.jobs.schedule.status",
    "Snooze": "amqpjobs.jobs.verdicts",
    "StepStatus": "amqpjobs.jobs.durable.status",
    "Text": "amqpjobs.jobs.message.bodies",
    "Tick": "amqpjobs.jobs.message.tick",
    "Undo": "amqpjobs.jobs.verdicts",
    "Unique": "amqpjobs.jobs.exclusion.unique",
    "Why": "amqpjobs.jobs.message.why",
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
