"""The app of the fault tests, whose workers free a slot soon when a copy is not taken."""

from amqpjobs.worker import replacing
from tests.faults.jobs import app

replacing.SLOT_TIME = 1.0

__all__ = ["app"]
