"""Probes: is the process alive, can it do its work. Changes when the work needs something new.

Both are open to everybody, so they name no address and no user.
"""

from fastapi import APIRouter
from pydantic import BaseModel

from amqpjobs.web.problems import Problem, problems
from amqpjobs.web.tier import Tier


class Health(BaseModel):
    """Alive, or ready."""

    status: str = "ok"


class Probes:
    """The routes.

    Args:
        tier: what the routes share.
    """

    def __init__(self, tier: Tier) -> None:
        self._tier = tier

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        router.add_api_route("/healthz", self.alive, summary="Is the process alive?")
        router.add_api_route(
            "/readyz", self.ready, summary="Can it take requests?", responses=problems(503)
        )

    async def alive(self) -> Health:
        """The process answers. Nothing else is checked: a restart would fix nothing else."""
        return Health()

    async def ready(self) -> Health:
        """RabbitMQ is connected and takes messages, the store answers, and nobody stops it."""
        reasons = await self._tier.obstacles()
        if reasons:
            raise Problem(
                503, "not-ready", "; ".join(reasons), {"Retry-After": "1"}, reasons=reasons
            )
        return Health()
