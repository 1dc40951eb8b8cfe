"""For tests of your jobs: an app on a broker of its own, that broker by itself, and its faults."""

from amqpjobs.broker.embedded import Broker as broker  # noqa: N813 - as it reads: `async with broker()`
from amqpjobs.broker.embedded.faults import faults
from amqpjobs.testing.records import Dead, Enqueued, Ran
from amqpjobs.testing.testing import NotIdle, Testing

__all__ = ["Dead", "Enqueued", "NotIdle", "Ran", "Testing", "broker", "faults"]
