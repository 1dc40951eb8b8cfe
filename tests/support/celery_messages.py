"""Messages that Celery 5.7 has sent to RabbitMQ 4.3, as they were captured with pika."""

import json
from pathlib import Path
from typing import Any

from amqpjobs.jobs.message.properties import Properties

CAPTURED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "unit" / "contrib" / "celery" / "captured.json").read_text()
)
"""By what the producer did. Bodies are latin-1: some are compressed."""


def properties(name: str) -> Properties:
    """The AMQP properties of a captured message."""
    return Properties(**CAPTURED[name]["properties"])


def body(name: str) -> bytes:
    """Its body."""
    encoded: str = CAPTURED[name]["body"]
    return encoded.encode("latin-1")
