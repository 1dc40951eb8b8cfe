"""``GET /queues``: what ``amqpjobs queues --json`` shows. Changes when it shows something else."""

import asyncio
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from amqpjobs.broker.rabbitmq.inspection.overview import rows_of
from amqpjobs.broker.rabbitmq.inspection.queues import connected
from amqpjobs.web.problems import problems
from amqpjobs.web.tier import Tier

FRESH = 1.0
"""Seconds for which an answer is given again: each look is a connection to RabbitMQ."""


class Row(BaseModel):
    """One AMQP queue that jobs wait in; null for what is not known."""

    queue: str
    priority: str | None = None
    state: str | None = Field(None, description="paused, consuming, or null: it has no consumer.")
    ready: int | None = None
    unacked: int | None = Field(None, description="null without RabbitMQ's management API.")
    consumers: int | None = None
    dead: int | None = Field(None, description="Dead letters, in the row with the queue's name.")
    parked: int | None = None
    exists: bool
    singleton: bool | None = Field(None, description="One of its jobs runs at a time.")
    paused_by: str | None = Field(None, description="The operator who has paused the queue.")
    paused_until: float | None = Field(
        None, description="When that ends by itself: seconds since the epoch; null for never."
    )
    rate: str | None = Field(None, description="The rate that an operator has set.")


class Queues:
    """The route, and its last answer.

    Args:
        tier: what the routes share.
    """

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._rows: list[dict[str, Any]] = []
        self._looked: float | None = None
        self._looking = asyncio.Lock()

    def add_to(self, router: APIRouter) -> None:
        """Add the route."""
        router.add_api_route(
            "/queues",
            self.queues,
            response_model=list[Row],
            summary="All queues",
            responses=problems(401, 403, 503),
        )

    async def queues(self) -> Response:
        """What waits, what runs, what failed; up to a second old."""
        async with self._looking:
            now = asyncio.get_running_loop().time()
            if self._looked is None or now - self._looked > FRESH:
                app = self._tier.app
                async with connected(app.settings, "inspect") as wire:
                    self._rows = await rows_of(app.queues, wire, app.settings)
                self._looked = asyncio.get_running_loop().time()
        return JSONResponse(self._rows)
