"""What the connected RabbitMQ does, by its version. Changes with RabbitMQ's release notes.

Sources: https://www.rabbitmq.com/docs/quorum-queues, /docs/consumers, and the release notes of 4.0
and 4.3.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OLDEST = (3, 10)

EMBEDDED = "amqpjobs embedded broker"
"""The product that `amqpjobs.broker.embedded` says it is."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One broker's version, and what follows from it.

    Attributes:
        version: as numbers, such as ``(4, 3, 6)``.
        product: its name; clones of RabbitMQ say another one.
        cluster: the name of its cluster; empty if it does not say. A node by itself is one, too.
    """

    version: tuple[int, ...]
    product: str
    cluster: str = ""

    @property
    def text(self) -> str:
        """Product and version, for people."""
        return f"{self.product} {'.'.join(map(str, self.version))}"

    @property
    def supported(self) -> bool:
        """Whether this version has what amqpjobs needs."""
        return self.product == "RabbitMQ" and self.version >= OLDEST

    @property
    def nack_counts(self) -> bool:
        """Whether giving a job back counts towards its queue's delivery limit."""
        return self.version < (4, 3)

    @property
    def late_ack_closes_channel(self) -> bool:
        """Whether an ack later than the consumer timeout costs the whole channel, not one
        consumer."""
        return self.version < (4, 3)

    @property
    def undoes_last_acks(self) -> bool:
        """Whether acks right before the end of their channel may come to nothing."""
        return self.product != EMBEDDED


def profile_of(server_properties: Mapping[str, Any]) -> Profile:
    """Read what the server said of itself when the connection was opened."""
    product = server_properties.get("product")
    version = server_properties.get("version")
    cluster = server_properties.get("cluster_name")
    numbers = re.findall(r"\d+", version) if isinstance(version, str) else []
    return Profile(
        tuple(int(n) for n in numbers[:3]) or (0,),
        product if isinstance(product, str) else "unknown",
        cluster if isinstance(cluster, str) else "",
    )
