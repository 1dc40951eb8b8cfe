"""``POST /hooks/{name}``: a signed webhook enqueues a job. Changes when that does.

Not behind the token: each hook has a secret of its own, and a sender without it is told
nothing but no.
"""

import time
from base64 import b64decode
from binascii import Error as NotBase64
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from amqpjobs.client.client import registry_of
from amqpjobs.errors import AmqpJobsError, ConfigurationError, StoreUnavailable
from amqpjobs.jobs.hook import Hook
from amqpjobs.jobs.job import Job, message_from
from amqpjobs.jobs.message.events import FAILED
from amqpjobs.jobs.message.ids import derived_id
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.webhook import Proof, prove
from amqpjobs.settings import secret_of
from amqpjobs.web.bodies import read_body
from amqpjobs.web.deliveries import Delivered, delivered
from amqpjobs.web.jobs import JSON_BODY, Accepted, accepted, enqueued
from amqpjobs.web.problems import Problem, problems
from amqpjobs.web.tier import Tier

SHORTEST_SECRET = 16
"""Characters of a secret, as of the token: one signed request is enough to try guesses against,
without asking us. Standard Webhooks wants 24 to 64 random bytes, GitHub high entropy."""

MOST_AGAIN = 100
"""Times that a delivery whose job has failed may come again."""


class Hooks:
    """The route of all hooks of an app.

    Args:
        tier: what the routes share.

    Raises:
        ConfigurationError: a hook without a secret; names the variable.
    """

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._secrets = {
            hook.name: secrets_of(hook) for hook in registry_of(tier.app).hooks.values()
        }

    def add_to(self, router: APIRouter) -> None:
        """Add the route, if there is a hook."""
        if not self._secrets:
            return
        router.add_api_route(
            "/hooks/{name}",
            self.receive,
            methods=["POST"],
            status_code=202,
            response_model=Accepted,
            summary="Enqueue a job by a signed request",
            responses={
                200: {"description": "Known already, or no event that becomes a job."},
                **problems(401, 404, 408, 409, 413, 415, 422, 503),
            },
            openapi_extra=JSON_BODY,
        )

    async def receive(self, request: Request, name: str = Path(max_length=64)) -> Response:
        """Enqueue the hook's job; 401 unless the request proves that it comes from its sender. 409
        if the same request has come before; 200 and the same id if the same delivery has."""
        hook = registry_of(self._tier.app).hooks.get(name)
        if hook is None:
            raise Problem(404, "unknown-hook", "there is no such hook")
        body = await read_body(request, self._tier.settings, forms=True)
        proof = self._proof(hook, request, body)
        found = delivered(hook, request, body, proof)
        if found.challenge is not None:
            return PlainTextResponse(found.challenge)
        if not becomes_a_job(hook, found.event):
            return Response() if hook.signing.quiet else JSONResponse({"ignored": found.event})
        answer = await self._enqueue(hook, found)
        return Response() if hook.signing.quiet else answer

    async def _enqueue(self, hook: Hook, found: Delivered) -> Response:
        message = message_from(Job[..., Any, Any](hook.job), found.arguments)
        proof = found.proof
        job_id = derived_id("hook", self._tier.app.name, hook.name, proof.key)
        if proof.delivery is None:
            answer = await self._once(hook, proof.key, proof.until, replace(message, id=job_id))
            if answer is None:
                raise Problem(409, "replay", "this request has been here before")
            return answer
        job_id, known = await self._latest(job_id)
        message = replace(message, id=job_id)
        answer = None if known else await self._once(hook, f"{proof.key} {job_id}", None, message)
        # A sender that has missed our answer tries again: it is to hear that all is well.
        return answer or accepted(job_id, message.job, message.queue, derived=True, status=200)

    async def _once(
        self, hook: Hook, key: str, until: float | None, message: Message[Any]
    ) -> Response | None:
        """Enqueue what was not here before; None if it was."""
        seen = self._tier.replays[hook.name]
        if not seen.add(key, until):
            return None
        try:
            return await enqueued(self._tier, message, derived=True)
        except AmqpJobsError:
            # It is not in the queue, and its sender may try again.
            seen.forget(key)
            raise

    async def _latest(self, job_id: str) -> tuple[str, bool]:
        """The job of a delivery, and whether it is known to be under way or done. One that has
        failed for good is followed by another when the delivery comes again."""
        for _ in range(MOST_AGAIN):
            try:
                status = await self._tier.app.status(job_id)
            except (ConfigurationError, StoreUnavailable):
                return job_id, False
            if status is None or status.state != FAILED:
                return job_id, status is not None
            job_id = derived_id("again", job_id, str(status.sequence))
        return job_id, False

    def _proof(self, hook: Hook, request: Request, body: bytes) -> Proof:
        def header(name: str) -> str | None:
            values = request.headers.getlist(name)
            return values[0] if len(values) == 1 else None

        proof = prove(hook.signing, header, body, self._secrets[hook.name], time.time())
        if proof is None:
            raise Problem(
                401,
                "unauthorized",
                "the request does not prove that it comes from the sender of this hook",
                {"WWW-Authenticate": hook.signing.header},
            )
        return proof


def becomes_a_job(hook: Hook, event: str | None) -> bool:
    """Whether an event is one that the hook is for."""
    if event in hook.signing.ignored:
        return False
    return not hook.events or event in hook.events


def secrets_of(hook: Hook) -> tuple[bytes, ...]:
    """The secrets that may sign for a hook: one, and others while it is changed.

    Raises:
        ConfigurationError: there is none, or one that could be guessed.
    """
    names = (hook.variable, *(f"{hook.variable}_{number}" for number in range(2, 10)))
    found: list[bytes] = []
    for name in names:
        secret = secret_of(name)
        if secret is None:
            continue
        value = secret.get_secret_value()
        key = _decoded(name, hook, value) if hook.signing.base64_secret else value.encode()
        if len(value) < SHORTEST_SECRET or len(key) < SHORTEST_SECRET:
            raise ConfigurationError(
                f"{name}, the secret of the hook {hook.name!r}, has less than {SHORTEST_SECRET} "
                "characters and could be guessed: openssl rand -hex 32, and give it to the sender"
            )
        found.append(key)
    if not found:
        raise ConfigurationError(
            f"the hook {hook.name!r} has no secret: set {hook.variable}, and give it to the sender"
        )
    return tuple(found)


def _decoded(name: str, hook: Hook, value: str) -> bytes:
    try:
        return b64decode(value.removeprefix("whsec_"), validate=True)
    except (NotBase64, ValueError):
        raise ConfigurationError(
            f"{name}, the secret of the hook {hook.name!r}, is not base64: its sender shows it as "
            "whsec_ and base64; copy the whole of it"
        ) from None
