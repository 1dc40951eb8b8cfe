"""Tests of your jobs: an app on a broker of its own, that broker by itself, and its faults."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from amqpjobs.broker.embedded import Broker, Faults
    from amqpjobs.broker.embedded import Broker as broker  # noqa: N813 - `async with broker()`
    from amqpjobs.broker.embedded.faults import faults
    from amqpjobs.testing.records import Dead, Enqueued, Published, Ran
    from amqpjobs.testing.testing import NotIdle, Testing

__all__ = [
    "Broker",
    "Dead",
    "Enqueued",
    "Faults",
    "NotIdle",
    "Published",
    "Ran",
    "Testing",
    "broker",
    "faults",
]

_HOMES: Final = {
    "Broker": ("amqpjobs.broker.embedded", "Broker"),
    "Faults": ("amqpjobs.broker.embedded", "Faults"),
    "Dead": ("amqpjobs.testing.records", "Dead"),
    "Enqueued": ("amqpjobs.testing.records", "Enqueued"),
    "NotIdle": ("amqpjobs.testing.testing", "NotIdle"),
    "Published": ("amqpjobs.testing.records", "Published"),
    "Ran": ("amqpjobs.testing.records", "Ran"),
    "Testing": ("amqpjobs.testing.testing", "Testing"),
    "broker": ("amqpjobs.broker.embedded", "Broker"),
}


def __getattr__(name: str) -> Any:
    # On first use: pytest imports this folder for its plugin in every run, whatever it tests.
    if name in _HOMES:
        module, attribute = _HOMES[name]
        found = globals()[name] = getattr(import_module(module), attribute)
        return found
    if name == "faults":
        return import_module("amqpjobs.broker.embedded.faults.faults")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
