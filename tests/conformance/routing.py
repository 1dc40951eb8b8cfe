"""What the rows on exchanges share."""

from tests.conformance.client import Channel
from tests.conformance.events import ClosedError


def routed(
    channel: Channel, exchange: str, key: str, *queues: str, **properties: object
) -> list[str]:
    """Publish once, and say which of the queues have it, each as often as it has it."""
    channel.publish_confirmed(key, b"", exchange=exchange, **properties)
    return [queue for queue in queues for _ in channel.get_all(queue)]


def refusal_of(channel: Channel, *methods: object) -> str:
    """Call methods, and say how the last of them is refused."""
    try:
        for method in methods:
            channel.call(method)  # type: ignore[arg-type]
    except ClosedError as error:
        return f"{error.scope} {error.code}: {error.text}"
    return "not refused"
