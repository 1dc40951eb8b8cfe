"""What a webhook's request says, when it has proved whose it is: the event, the delivery's id, and
the arguments of a job.

Changes when senders say it in another way.
"""

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic_core import from_json, to_json

from amqpjobs.jobs.hook import Hook
from amqpjobs.jobs.webhook import LONGEST_DELIVERY, Proof
from amqpjobs.web.bodies import FORM, media_type
from amqpjobs.web.problems import Problem

MOST_FIELDS = 1000
"""Of a form."""

CHALLENGE = "url_verification"


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a request says.

    Attributes:
        arguments: of the job, as in a message.
        proof: with the delivery's id, if the body has it.
        event: what happened; None if it does not say.
        challenge: what it wants to hear, and no job; None for an ordinary request.
    """

    arguments: bytes
    proof: Proof
    event: str | None
    challenge: str | None


def delivered(hook: Hook, request: Request, body: bytes, proof: Proof) -> Delivered:
    """Read a request that has proved whose it is.

    Raises:
        Problem: 422: its body is neither JSON nor a form, or a header is missing.
    """
    signing = hook.signing
    text = _of_form(body) if media_type(request) == FORM else body
    value: Any = None
    if signing.delivery_key or signing.event_key or signing.challenges or hook.headers:
        value = _parsed(text)
    fields = value if isinstance(value, dict) else {}
    if signing.challenges and fields.get("type") == CHALLENGE:
        return Delivered(text, proof, CHALLENGE, str(fields.get("challenge", "")))
    event = request.headers.get(signing.event) if signing.event else None
    if signing.event_key is not None:
        event = _text(fields.get(signing.event_key))
    if signing.delivery_key is not None and proof.delivery is None:
        delivery = _text(fields.get(signing.delivery_key))
        if delivery and len(delivery) <= LONGEST_DELIVERY:
            proof = replace(proof, key=f"delivery {delivery}", delivery=delivery)
    arguments = _with_headers(hook, request, text) if hook.headers else text
    return Delivered(arguments, proof, event, None)


def _with_headers(hook: Hook, request: Request, text: bytes) -> bytes:
    """The arguments by name; the body as it was written, which is JSON, as was seen."""
    values: dict[str, str] = {}
    for parameter, name in hook.headers.items():
        found = request.headers.getlist(name)
        if len(found) > 1:
            raise Problem(422, "header", f"the header {name} is there {len(found)} times")
        if found:
            values[parameter] = found[0]
    start = to_json(values)[:-1]
    comma = b"," if values else b""
    return b"%b%b%b:%b}" % (start, comma, to_json(hook.body), text)


def _parsed(text: bytes) -> Any:
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError:
        raise Problem(422, "arguments", "the body is not JSON") from None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _of_form(body: bytes) -> bytes:
    """A form as JSON: the field ``payload``, if it is the only one, holds JSON; else an object of
    all fields, where one that is there several times is a list."""
    try:
        fields = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MOST_FIELDS,
        )
    except ValueError:
        raise Problem(422, "form", "the body is not a form, as its Content-Type says") from None
    if len(fields) == 1 and fields[0][0] == "payload":
        return fields[0][1].encode()
    found: dict[str, list[str]] = {}
    for name, value in fields:
        found.setdefault(name, []).append(value)
    return to_json({name: each[0] if len(each) == 1 else each for name, each in found.items()})
