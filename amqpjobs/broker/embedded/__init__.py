"""An AMQP 0-9-1 broker inside the process, for development and tests: in memory, loopback only."""

from amqpjobs.broker.embedded.broker import Broker
from amqpjobs.broker.embedded.faults.faults import Fault, Faults

__all__ = ["Broker", "Fault", "Faults"]
