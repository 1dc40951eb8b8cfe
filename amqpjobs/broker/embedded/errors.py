"""What the embedded broker refuses, in the codes and words of RabbitMQ.

Which codes cost the channel and which the connection is in AMQP's table of exceptions
(amqp0-9-1.extended.xml: "soft-error" and "hard-error").
"""

from typing import Literal

_NAMES = {
    311: "CONTENT_TOO_LARGE",
    312: "NO_ROUTE",
    313: "NO_CONSUMERS",
    320: "CONNECTION_FORCED",
    402: "INVALID_PATH",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    502: "SYNTAX_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    505: "UNEXPECTED_FRAME",
    506: "RESOURCE_ERROR",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}
_SOFT = frozenset({311, 312, 313, 403, 404, 405, 406})

ACCESS_REFUSED = 403
NOT_FOUND = 404
RESOURCE_LOCKED = 405
PRECONDITION_FAILED = 406
RESOURCE_ERROR = 506
NOT_ALLOWED = 530
NOT_IMPLEMENTED = 540
INTERNAL_ERROR = 541
NO_ROUTE = 312


class Refusal(Exception):
    """The broker says no, and closes the channel or the connection with it.

    Attributes:
        code: AMQP's reply code.
        text: the reply text in full, such as ``NOT_FOUND - no queue 'x' in vhost '/'``.
        closes: what the code costs: ``channel`` or ``connection``.
    """

    def __init__(self, code: int, explanation: str) -> None:
        self.code = code
        self.text = _short(f"{_NAMES[code]} - {explanation}")
        super().__init__(self.text)

    @property
    def closes(self) -> Literal["channel", "connection"]:
        """What this code closes."""
        return "channel" if self.code in _SOFT else "connection"


def _short(text: str) -> str:
    """A text that fits into a short string, cut where RabbitMQ cuts it."""
    content = text.encode()
    return text if len(content) <= 255 else f"{content[:252].decode(errors='ignore')}..."


def in_vhost(kind: str, name: str, vhost: str) -> str:
    """A queue or an exchange as RabbitMQ names it in its answers."""
    return f"{kind} '{name}' in vhost '{vhost}'"
