"""What every part of an app needs to know: what is declared, how it is deployed, whose clock it is.

Changes when there is something else that all parts need.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.registry import Registry

if TYPE_CHECKING:
    # Importing pydantic-settings takes longer than everything else here; it comes with the values.
    from amqpjobs.settings import Settings


@dataclass(frozen=True, slots=True)
class Runtime:
    """An app as its parts know it. They are given this, never the app: a test makes another one,
    and nothing else has to be replaced.

    Attributes:
        registry: what is declared: jobs, queues, webhooks, and what holds for all of them.
        settings: how this deployment is set.
        clock: what delays, deadlines and pauses are counted from.
    """

    registry: Registry
    settings: "Settings"
    clock: Clock = MACHINE
