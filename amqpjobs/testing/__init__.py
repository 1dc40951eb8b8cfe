"""For tests of your jobs: an app on a broker of its own, that broker by itself, and its faults."""

from amqpjobs.embedded import Broker as broker  # noqa: N813 - as it reads: `async with broker()`
from amqpjobs.embedded import faults
from amqpjobs.testing.kit import NotIdle, Testing
from amqpjobs.testing.recording import Dead, Enqueued, Ran

__all__ = ["Dead", "Enqueued", "NotIdle", "Ran", "Testing", "broker", "faults"]
