"""Signed webhooks: what a sender must prove before its request becomes a job. Pure: no HTTP in it.

The signature is an HMAC-SHA256 (RFC 2104) of the raw body, with the time of sending and the id of
the delivery in front of it where the sender does that. Changes when there is another way to sign.
"""

import hashlib
import hmac
import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from amqpjobs.errors import ConfigurationError

WINDOW = 300.0
"""Seconds that a signed time may be away from ours: enough for clocks that are not quite right."""

LONGEST_DELIVERY = 255
"""Characters of a delivery's id."""

MOST_SIGNATURES = 16
"""Of one request: while a secret is changed, a sender may sign with the old and with the new."""

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
"""A token of RFC 9110, section 5.6.2."""

_PLACE = re.compile(r"\{(id|timestamp|body)\}")


@dataclass(frozen=True, slots=True)
class Signing:
    """How a sender signs, in which headers it says so, and what else it sends.

    `GITHUB`, `STRIPE`, `SLACK` and `STANDARD_WEBHOOKS` are some of them. A request that was
    recorded and is sent again is refused by its signed time, or known by the id of its delivery.
    Where neither is signed (GitHub), whoever has recorded a request can send it again under another
    id, so such a hook is for HTTPS only.

    Args:
        header: of the signature.
        timestamp: of the time of sending, in whole seconds since the epoch; with ``=`` at its end,
            such as ``t=``, a part of the signature's own header; None if there is none.
        delivery: of the delivery's id. A delivery that comes again is the same job.
        window: seconds that the time may be away from ours.
        prefix: in front of a signature.
        encoding: of a signature.
        separator: between several signatures in the header; empty where there is one.
        signed: what is signed, made of ``{id}``, ``{timestamp}`` and ``{body}``; empty for
            ``{timestamp}.{body}``, or ``{body}`` where no time is sent.
        base64_secret: whether the secret is base64, after ``whsec_``.
        delivery_key: in place of `delivery`, the key of the id in a JSON body.
        event: the header with the name of what happened.
        event_key: in place of `event`, the key of the name in a JSON body.
        ignored: events that become no job, such as ``ping``.
        challenges: answer ``{"type": "url_verification", "challenge": ...}`` with the challenge.
        quiet: answer with status 200 and no body.
        objects: whether all its bodies are JSON objects, so that a job that takes another thing is
            refused when the hook is declared.

    Raises:
        ConfigurationError: neither a time nor an id, so that nothing would tell a replay; or what
            is signed names a part that is not sent.

    Example:
        >>> sender = Signing("X-Shop-Signature", timestamp="X-Shop-Time", prefix="v1=")
        >>> hook = app.hook("shop", job=build_report, signing=sender)
    """

    header: str = "X-Amqpjobs-Signature"
    timestamp: str | None = "X-Amqpjobs-Timestamp"
    delivery: str | None = None
    window: float = WINDOW
    prefix: str = "sha256="
    encoding: Literal["hex", "base64"] = "hex"
    separator: str = ""
    signed: str = ""
    base64_secret: bool = False
    delivery_key: str | None = None
    event: str | None = None
    event_key: str | None = None
    ignored: tuple[str, ...] = ()
    challenges: bool = False
    quiet: bool = False
    objects: bool = False

    def __post_init__(self) -> None:
        if problem := self._problem():
            raise ConfigurationError(f"Signing: {problem}")

    def _problem(self) -> str | None:
        if self.timestamp is None and self.delivery is None and self.delivery_key is None:
            return (
                "give timestamp=..., the header with the signed time, or delivery=..., the header "
                "with the delivery's id: without one of them a replay is not noticed"
            )
        if not 0 < self.window <= 86_400:
            return f"window is a number of seconds up to a day, not {self.window!r}"
        for name in (self.header, self.timestamp, self.delivery, self.event):
            if name is not None and TOKEN.fullmatch(name.removesuffix("=")) is None:
                return f"{name!r} cannot be the name of a header"
        if self.encoding not in ("hex", "base64"):
            return f"encoding is 'hex' or 'base64', not {self.encoding!r}"
        return self._problem_with_signed()

    def _problem_with_signed(self) -> str | None:
        parts = set(_PLACE.findall(self.content))
        if "body" not in parts:
            return f"signed={self.signed!r} lacks {{body}}: any body would pass"
        if self.timestamp is not None and "timestamp" not in parts:
            return f"signed={self.signed!r} lacks {{timestamp}}: any time would pass"
        if "timestamp" in parts and self.timestamp is None:
            return f"signed={self.signed!r} has a {{timestamp}}: give timestamp=..., its header"
        if "id" in parts and self.delivery is None:
            return f"signed={self.signed!r} has an {{id}}: give delivery=..., its header"
        return None

    @property
    def content(self) -> str:
        """What is signed, with its places."""
        return self.signed or ("{body}" if self.timestamp is None else "{timestamp}.{body}")

    @property
    def has_events(self) -> bool:
        """Whether a request says what happened."""
        return self.event is not None or self.event_key is not None


SIGNED = Signing()
"""Ours: the time of sending is signed together with the body."""

GITHUB = Signing(
    "X-Hub-Signature-256",
    timestamp=None,
    delivery="X-GitHub-Delivery",
    event="X-GitHub-Event",
    ignored=("ping",),
    objects=True,
)
"""GitHub's (https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries)."""

STRIPE = Signing(
    "Stripe-Signature",
    timestamp="t=",
    prefix="v1=",
    separator=",",
    delivery_key="id",
    event_key="type",
    objects=True,
)
"""Stripe's (https://docs.stripe.com/webhooks#verify-manually)."""

SLACK = Signing(
    "X-Slack-Signature",
    timestamp="X-Slack-Request-Timestamp",
    prefix="v0=",
    signed="v0:{timestamp}:{body}",
    delivery_key="event_id",
    challenges=True,
    quiet=True,
    objects=True,
)
"""Slack's (https://docs.slack.dev/authentication/verifying-requests-from-slack): events, slash
commands and interactions. A slash command is an object of its fields."""

STANDARD_WEBHOOKS = Signing(
    "webhook-signature",
    timestamp="webhook-timestamp",
    delivery="webhook-id",
    prefix="v1,",
    encoding="base64",
    separator=" ",
    signed="{id}.{timestamp}.{body}",
    base64_secret=True,
    event_key="type",
)
"""That of https://www.standardwebhooks.com, with a shared secret (``v1``)."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a request has proved.

    Attributes:
        key: what its replay would have in common with it.
        until: seconds since the epoch until which a replay would pass for it; None for ever.
        delivery: the delivery's id, which its sender uses again when it tries again; None for none.
    """

    key: str
    until: float | None
    delivery: str | None = None


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
        What it proved, or None. The error never says which part was wrong.
    """
    value = header(signing.header) or ""
    parts = value.split(signing.separator)[:MOST_SIGNATURES] if signing.separator else [value]
    digests = [_digest(signing, part) for part in parts]
    stamp = _stamp(signing, parts, header)
    moment = float(stamp) if re.fullmatch(r"[0-9]{1,12}", stamp) else 0.0
    delivery = None if signing.delivery is None else header(signing.delivery) or ""
    fits = signing.timestamp is None or abs(now - moment) <= signing.window
    if delivery is not None:
        # A point in a signed id could be one between the parts of what is signed.
        fits = fits and 0 < len(delivery) <= LONGEST_DELIVERY
        fits = fits and not ("{id}" in signing.content and "." in delivery)
    content = _content(signing, delivery or "", stamp, body)
    # All secrets, whatever the first says, so that time tells nothing.
    proofs = [
        own
        for own in [sign(secret, content) for secret in secrets]
        if any([hmac.compare_digest(own, digest) for digest in digests])  # noqa: C419 - all of them
    ]
    if not proofs or not fits:
        return None
    if delivery is not None:
        return Proof(f"delivery {delivery}", None, delivery)
    # By its bytes: the same digits in other letters are the same signature.
    until = None if signing.timestamp is None else moment + signing.window
    return Proof(f"signature {proofs[0].hex()}", until)


def _stamp(signing: Signing, parts: list[str], header: Callable[[str], str | None]) -> str:
    place = signing.timestamp
    if place is None:
        return ""
    if not place.endswith("="):
        return header(place) or ""
    found = [part.strip().removeprefix(place) for part in parts if part.strip().startswith(place)]
    return found[0] if len(found) == 1 else ""


def _content(signing: Signing, delivery: str, stamp: str, body: bytes) -> bytes:
    known = {"id": delivery.encode(), "timestamp": stamp.encode(), "body": body}
    # Odd parts are names of places.
    split = _PLACE.split(signing.content)
    return b"".join(known[part] if i % 2 else part.encode() for i, part in enumerate(split))


def sign(secret: bytes, signed: bytes) -> bytes:
    """The HMAC-SHA256 of what is signed."""
    return hmac.new(secret, signed, hashlib.sha256).digest()


def _digest(signing: Signing, value: str) -> bytes:
    """The bytes of a signature; none where it is malformed, or is no signature."""
    value = value.strip() if signing.separator else value
    if not value.startswith(signing.prefix):
        return b""
    text = value.removeprefix(signing.prefix)
    if signing.encoding == "hex":
        return bytes.fromhex(text) if re.fullmatch(r"[0-9a-fA-F]{64}", text) else b""
    try:
        return b64decode(text, validate=True)
    except (NotBase64, ValueError):
        return b""
