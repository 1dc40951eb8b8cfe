"""What a broker says: messages, confirms, cancellations, and why it closed something."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pamqp.commands import Basic

from tests.conformance.wire import Frame


class ClosedError(Exception):
    """The broker has closed the channel or the connection.

    Attributes:
        scope: "channel" or "connection".
        code: AMQP's reply code.
        text: the broker's words.
        method: class and method id of the method that it blames; (0, 0) for none.
    """

    def __init__(self, scope: str, code: int, text: str, method: tuple[int, int] = (0, 0)) -> None:
        super().__init__(f"{scope}: {code} {text}")
        self.scope = scope
        self.code = code
        self.text = text
        self.method = method


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it arrives: by `basic.deliver` or `basic.get-ok`."""

    exchange: str
    key: str
    body: bytes
    properties: Basic.Properties = field(compare=False)

    @property
    def headers(self) -> dict[str, Any]:
        """Its headers table; empty without one."""
        return dict(self.properties.headers or {})


@dataclass(frozen=True, slots=True)
class Delivered(Message):
    """``basic.deliver``; a message that was asked for by `get` has no consumer."""

    tag: int
    redelivered: bool
    consumer: str
    left: int = field(default=0, compare=False)
    """How many more are ready, as ``basic.get-ok`` says."""


@dataclass(frozen=True, slots=True)
class Returned(Message):
    """``basic.return``."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """``basic.ack`` from the broker, or with `refused` ``basic.nack``."""

    tag: int
    multiple: bool = field(
        default=False, compare=False
    )  # the broker's choice, if nothing is before
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Cancelled:
    """``basic.cancel`` from the broker."""

    consumer: str


Event: TypeAlias = Delivered | Returned | Confirmed | Cancelled


def closed(scope: str, close: Any) -> ClosedError:
    return ClosedError(scope, close.reply_code, close.reply_text, (close.class_id, close.method_id))


def told(method: Frame) -> Event | None:
    """The event that a method without content is."""
    match method:
        case Basic.Ack():
            return Confirmed(method.delivery_tag, method.multiple)
        case Basic.Nack():
            return Confirmed(method.delivery_tag, method.multiple, refused=True)
        case Basic.Cancel():
            return Cancelled(method.consumer_tag)
    return None


def message(method: Any, said: Any, content: bytes) -> Any:
    where = (method.exchange, method.routing_key, content, said)
    match method:
        case Basic.Return():
            return Returned(*where, method.reply_code, method.reply_text)
        case Basic.GetOk():
            return Delivered(
                *where, method.delivery_tag, method.redelivered, "", method.message_count
            )
    return Delivered(*where, method.delivery_tag, method.redelivered, method.consumer_tag)
