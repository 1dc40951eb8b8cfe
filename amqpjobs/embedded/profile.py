"""Where RabbitMQ 3.10 and 4.3 differ. Changes with RabbitMQ's release notes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """The behaviour of one version of RabbitMQ.

    Attributes:
        version: as amqpjobs speaks of it, such as ``4.3``.
        release: as the server says it in its properties, such as ``4.3.6``.
        max_message_size: the largest body, in bytes.
    """

    version: str
    release: str
    max_message_size: int


PROFILES = {
    "3.10": Profile("3.10", "3.10.8", 128 << 20),
    "4.3": Profile("4.3", "4.3.6", 16 << 20),
}


def profile_named(text: str) -> Profile:
    """The profile of that version.

    Raises:
        ValueError: there is none.
    """
    try:
        return PROFILES[text]
    except KeyError:
        raise ValueError(
            f"no broker profile {text!r}: choose one of {', '.join(PROFILES)}"
        ) from None
