"""``POST /hooks/{name}``: a signed webhook enqueues a job. Changes when that does.

Not behind the token: each hook has a secret of its own, and whoever does not know it is told
nothing but no.
"""

import time
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from amqpjobs.errors import AmqpJobsError, ConfigurationError
from amqpjobs.hooks import Hook, Proof, prove
from amqpjobs.ids import derived_id
from amqpjobs.job import Job
from amqpjobs.settings import secret_of
from amqpjobs.web.bodies import read_body
from amqpjobs.web.jobs import JSON_BODY, Accepted, enqueued
from amqpjobs.web.problems import Problem, problems
from amqpjobs.web.tier import Tier

SHORTEST_SECRET = 16
"""Characters of a secret, as of the token: one signed request is enough to try guesses against,
without asking us. Standard Webhooks wants 24 to 64 random bytes, GitHub high entropy."""


class Hooks:
    """The route of all hooks of an app.

    Args:
        tier: what the routes share.

    Raises:
        ConfigurationError: a hook without a secret; names the variable.
    """

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._secrets = {hook.name: secrets_of(hook) for hook in tier.app.hooks.values()}

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
            responses=problems(401, 404, 408, 409, 413, 415, 422, 503),
            openapi_extra=JSON_BODY,
        )

    async def receive(self, request: Request, name: str = Path(max_length=64)) -> Response:
        """Enqueue the hook's job; 401 unless the request proves that it comes from its sender,
        409 if it has come before."""
        hook = self._tier.app.hooks.get(name)
        if hook is None:
            raise Problem(404, "unknown-hook", "there is no such hook")
        body = await read_body(request, self._tier.settings)
        proof = self._proof(hook, request, body)
        seen = self._tier.replays[name]
        if not seen.add(proof.key, proof.until):
            raise Problem(409, "replay", "this request has been here before")
        try:
            message = replace(
                Job[..., Any, Any](hook.job).message_of(body),
                id=derived_id("hook", self._tier.app.name, name, proof.key),
            )
            return await enqueued(self._tier, message, derived=True)
        except AmqpJobsError:
            # It is not in the queue, and its sender may try again.
            seen.forget(proof.key)
            raise

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
        if len(secret.get_secret_value()) < SHORTEST_SECRET:
            raise ConfigurationError(
                f"{name}, the secret of the hook {hook.name!r}, has less than {SHORTEST_SECRET} "
                "characters and could be guessed: openssl rand -hex 32, and give it to the sender"
            )
        found.append(secret.get_secret_value().encode())
    if not found:
        raise ConfigurationError(
            f"the hook {hook.name!r} has no secret: set {hook.variable}, and give it to the sender"
        )
    return tuple(found)
