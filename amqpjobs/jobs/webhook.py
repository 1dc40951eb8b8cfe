"""Signed webhooks: what a sender must prove before its request becomes a job. Pure: no HTTP in it.

The signature is an HMAC-SHA256 (RFC 2104) of the raw body, with the time of sending in front of it
where the sender can do that. Changes when there is another way to sign.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.definition import Definition

WINDOW = 300.0
"""Seconds that a signed time may be away from ours: enough for clocks that are not quite right."""

LONGEST_DELIVERY = 255
"""Characters of a delivery's id."""


@dataclass(frozen=True, slots=True)
class Signing:
    """How a sender signs, and in which headers it says so.

    With `timestamp`, what is signed is ``<timestamp>.<body>``: an old request is refused by its
    age, and one within the window by its signature, which is remembered. Without, what is signed
    is the body, and a request is known by its `delivery` id alone. That id is not signed: whoever
    has recorded a request can send it again under another one, so such a hook is for HTTPS only.

    Args:
        header: of the signature, ``sha256=`` and 64 hexadecimal digits.
        timestamp: of the time of sending, in whole seconds since the epoch; None if not signed.
        delivery: of the delivery's id, for senders that do not sign a time.
        window: seconds that the time may be away from ours.

    Raises:
        ConfigurationError: neither a time nor an id, so that nothing would tell a replay.
    """

    header: str = "X-Amqpjobs-Signature"
    timestamp: str | None = "X-Amqpjobs-Timestamp"
    delivery: str | None = None
    window: float = WINDOW

    def __post_init__(self) -> None:
        if (self.timestamp is None) == (self.delivery is None):
            raise ConfigurationError(
                "Signing: give timestamp=..., the header with the signed time, or delivery=..., "
                "the header with the delivery's id: one of them tells a request from its replay"
            )
        if not 0 < self.window <= 86_400:
            raise ConfigurationError(
                f"Signing: window is a number of seconds up to a day, not {self.window!r}"
            )


SIGNED = Signing()
"""Ours: the time of sending is signed together with the body."""

GITHUB = Signing("X-Hub-Signature-256", timestamp=None, delivery="X-GitHub-Delivery")
"""GitHub's (https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries)."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A job that is enqueued by a signed request to ``/hooks/{name}``; the body is its argument.

    Attributes:
        name: in the path; small letters, digits, ``-`` and ``_``.
        job: what is enqueued.
        signing: how its sender signs.

    Raises:
        ConfigurationError: a name that cannot be one.
    """

    name: str
    job: Definition
    signing: Signing = SIGNED

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", self.name):
            raise ConfigurationError(
                f"hook {self.name!r}: a name is small letters, digits, '-' and '_', up to 64"
            )

    @property
    def variable(self) -> str:
        """The environment variable with its secret."""
        return f"AMQPJOBS_HOOK_{self.name.upper().replace('-', '_')}_SECRET"


@dataclass(frozen=True, slots=True)
class Proof:
    """What a request has proved.

    Attributes:
        key: what its replay would have in common with it.
        until: seconds since the epoch until which a replay would pass for it; None for ever.
    """

    key: str
    until: float | None


def prove(
    signing: Signing,
    header: Callable[[str], str | None],
    body: bytes,
    secrets: tuple[bytes, ...],
    now: float,
) -> Proof | None:
    """Check a request's signature.

    Args:
        signing: how its sender signs.
        header: the value of a header, by its name; None where it is missing or there twice.
        body: as it was received.
        secrets: any of them may have signed.
        now: seconds since the epoch.

    Returns:
        What it proved, or None. Which part was wrong is nobody's business.
    """
    digest = _digest(header(signing.header))
    if signing.timestamp is None:
        delivery = header(signing.delivery or "") or ""
        fits = 0 < len(delivery) <= LONGEST_DELIVERY
        proof, signed = Proof(f"delivery {delivery}", None), body
    else:
        written = header(signing.timestamp) or ""
        moment = float(written) if re.fullmatch(r"[0-9]{1,12}", written) else 0.0
        fits = abs(now - moment) <= signing.window
        # By its bytes: the same digits in other letters are the same signature.
        proof = Proof(f"signature {digest.hex()}", moment + signing.window)
        signed = written.encode() + b"." + body
    # All secrets, whatever the first says, so that time tells nothing.
    known = [hmac.compare_digest(sign(secret, signed), digest) for secret in secrets]
    return proof if any(known) and fits else None


def sign(secret: bytes, signed: bytes) -> bytes:
    """The HMAC-SHA256 of what is signed."""
    return hmac.new(secret, signed, hashlib.sha256).digest()


def _digest(value: str | None) -> bytes:
    """The bytes of a signature; none where it is malformed."""
    found = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", value or "")
    return bytes.fromhex(found[1]) if found else b""
