"""An AMQP 0-9-1 broker inside the process, for development and tests: in memory, loopback only."""

from amqpjobs.embedded.broker import Broker
from amqpjobs.embedded.faults import Fault, Faults

__all__ = ["Broker", "Fault", "Faults"]
