"""Logins: the mechanisms of SASL that clients may use, and who is let in.

The words are RabbitMQ's (rabbit_auth_mechanism_plain.erl, rabbit_auth_mechanism_amqplain.erl).
Changes when there is another mechanism.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from amqpjobs.broker.amqp.fields import MALFORMED, decode_table
from amqpjobs.broker.embedded.errors import ACCESS_REFUSED, Refusal
from amqpjobs.broker.embedded.refusals import COMMAND_INVALID
from amqpjobs.errors import DecodeError

_SYNTAX_ERROR = 502


@dataclass(frozen=True, slots=True)
class Access:
    """Who may log in to the broker.

    Attributes:
        user: the name.
        password: its password.
        any_user: whether every name is let in, with whatever password.
    """

    user: str = "guest"
    password: str = "guest"  # noqa: S105 - RabbitMQ's own default, on loopback
    any_user: bool = False

    @property
    def accept(self) -> str:
        """As `Broker` is told it: ``named`` or ``any``."""
        return "any" if self.any_user else "named"

    def admits(self, user: bytes, password: bytes) -> bool:
        """Whether they may log in."""
        return self.any_user or (user, password) == (self.user.encode(), self.password.encode())


def log_in(access: Access, mechanism: str, response: bytes) -> str:
    """Check a login; the name of the user.

    Raises:
        Refusal: the mechanism is unknown, the response malformed, or the login wrong.
    """
    read = _MECHANISMS.get(mechanism)
    if read is None:
        raise Refusal(COMMAND_INVALID, f"unknown authentication mechanism '{mechanism}'")
    user, password = read(response)
    if not access.admits(user, password):
        raise Refusal(
            ACCESS_REFUSED,
            f"Login was refused using authentication mechanism {mechanism}. "
            "For details see the broker logfile.",
        )
    return user.decode(errors="replace")


def _read_plain(response: bytes) -> tuple[bytes, bytes]:
    parts = response.split(b"\0")
    if len(parts) != 3 or parts[0]:
        # RabbitMQ repeats the response here. It may hold a password, mistyped as it may be.
        raise Refusal(_SYNTAX_ERROR, "response invalid")
    return parts[1], parts[2]


def _read_amqplain(response: bytes) -> tuple[bytes, bytes]:
    """A field table without its length, from the time before SASL."""
    try:
        table = decode_table(response)
    except (DecodeError, *MALFORMED) as problem:
        raise Refusal(_SYNTAX_ERROR, "response invalid") from problem
    return _field(table, "LOGIN"), _field(table, "PASSWORD")


def _field(table: Mapping[str, object], name: str) -> bytes:
    value = table.get(name)
    if not isinstance(value, str | bytes):
        raise Refusal(_SYNTAX_ERROR, "AMQPLAIN auth info is missing LOGIN or PASSWORD field")
    return value.encode() if isinstance(value, str) else value


_MECHANISMS: Final[dict[str, Callable[[bytes], tuple[bytes, bytes]]]] = {
    "AMQPLAIN": _read_amqplain,
    "PLAIN": _read_plain,
}

MECHANISMS: Final = " ".join(_MECHANISMS)
"""As `connection.start` lists them."""
