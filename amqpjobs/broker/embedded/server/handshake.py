"""The handshake of a connection: login, limits of both sides, virtual host.

Nothing here reads or writes: methods come in, and methods go out. The words are RabbitMQ's
(rabbit_reader.erl). Changes when what is negotiated does.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from amqpjobs.broker.embedded.errors import ACCESS_REFUSED, NOT_ALLOWED, Refusal
from amqpjobs.broker.embedded.refusals import CHANNEL_ERROR
from amqpjobs.broker.embedded.server.login import MECHANISMS, Access, log_in
from amqpjobs.broker.embedded.server.methods import encode

PRODUCT = "amqpjobs embedded broker"
"""What it says it is. It is not RabbitMQ, and clients choose by the version anyway."""

CHANNEL_MAX = 2047
FRAME_MAX = 131072
HEARTBEAT = 60  # seconds

_CAPABILITIES = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "consumer_priorities": True,
    "authentication_failure_close": True,
    "per_consumer_qos": True,
    "direct_reply_to": True,
}

State = Literal["starting", "tuning", "opening", "running"]


class Handshake:
    """The beginning of one connection.

    Attributes:
        state: what it waits for; in the words of RabbitMQ.
        frame_min: the lowest limit of frames that a client may ask for, in bytes.
        frame_max: the largest frame, in bytes; what was agreed on, once it was.
        channel_max: the highest number of open channels.
        heartbeat: the interval, in seconds; 0 for none.
        client_properties: what the client said of itself.
        user: who has logged in.
        virtual_host: the name of what it opened.

    Args:
        release: as which RabbitMQ the broker behaves, such as ``4.3.6``.
        access: who may log in.
        has_vhost: whether there is a virtual host of that name.
    """

    def __init__(self, release: str, access: Access, has_vhost: Callable[[str], bool]) -> None:
        self.state: State = "starting"
        # 4.0 raised it, so that tokens fit in: rabbit_framing.hrl.
        self.frame_min = 4096 if release.startswith("3.") else 8192
        self.frame_max = self.frame_min
        self.channel_max = CHANNEL_MAX
        self.heartbeat = 0
        self.client_properties: Mapping[str, Any] = {}
        self._release = release
        self.user = ""
        self.virtual_host = ""
        self._access = access
        self._has_vhost = has_vhost
        self._answers: dict[str, tuple[State, Callable[..., bytes]]] = {
            "connection.start-ok": ("starting", self._log_in),
            "connection.tune-ok": ("tuning", self._tune),
            "connection.open": ("opening", self._open),
        }

    def start(self) -> bytes:
        """The first frame of the server."""
        properties = {
            "capabilities": _CAPABILITIES,
            "cluster_name": PRODUCT,
            "information": "In memory, for development and tests; not for production.",
            "platform": "Python",
            "product": PRODUCT,
            "version": self._release,
        }
        return encode(
            0,
            "connection.start",
            version_major=0,
            version_minor=9,
            server_properties=properties,
            mechanisms=MECHANISMS,
            locales="en_US",
        )

    def answer(self, method: str, fields: Mapping[str, Any]) -> bytes:
        """What to say to a method; empty for nothing.

        Raises:
            Refusal: the connection ends with it. `tells` says whether the client hears why.
        """
        expected = self._answers.get(method)
        if expected is None or expected[0] != self.state:
            explanation = f"unexpected method in connection state {self.state}"
            raise Refusal(CHANNEL_ERROR, explanation)
        return expected[1](**fields)

    def tells(self, refusal: Refusal) -> bool:
        """Whether RabbitMQ says that refusal to the client at all, before it hangs up.

        A client is not trusted at first: of what fails before it opens a virtual host it hears of a
        wrong password alone, if it has said that it understands.
        """
        if self.state == "starting":
            return refusal.code == ACCESS_REFUSED and self.capable("authentication_failure_close")
        return self.state != "tuning"

    def capable(self, capability: str) -> bool:
        """Whether the client has said that it can do that."""
        capabilities = self.client_properties.get("capabilities")
        return isinstance(capabilities, Mapping) and capabilities.get(capability) is True

    def _log_in(
        self, client_properties: Mapping[str, Any], mechanism: str, response: bytes, locale: str
    ) -> bytes:
        self.client_properties = client_properties
        self.user = log_in(self._access, mechanism, response)
        self.state = "tuning"
        return encode(
            0,
            "connection.tune",
            channel_max=CHANNEL_MAX,
            frame_max=FRAME_MAX,
            heartbeat=HEARTBEAT,
        )

    def _tune(self, channel_max: int, frame_max: int, heartbeat: int) -> bytes:
        _check("frame_max", frame_max, self.frame_min, FRAME_MAX)
        _check("channel_max", channel_max, 1, CHANNEL_MAX)
        self.channel_max, self.frame_max, self.heartbeat = channel_max, frame_max, heartbeat
        self.state = "opening"
        return b""

    def _open(self, virtual_host: str) -> bytes:
        if not self._has_vhost(virtual_host):
            raise Refusal(NOT_ALLOWED, f"vhost {virtual_host} not found")
        self.virtual_host = virtual_host
        self.state = "running"
        return encode(0, "connection.open-ok")


def _check(field: str, value: int, lowest: int, highest: int) -> None:
    if value and value < lowest:
        wrong = f"lower than the minimum allowed value ({lowest})"
    elif not value or value > highest:
        wrong = f"higher than the maximum allowed value ({highest})"
    else:
        return
    detail = " (no limit)" if field == "channel_max" and not value else ""
    raise Refusal(NOT_ALLOWED, f"negotiated {field} = {value}{detail} is {wrong}")
