"""The API of an app: all routes together. Changes when there is another kind of route."""

from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends, FastAPI
from starlette.exceptions import HTTPException

from amqpjobs.web.durable import Durable
from amqpjobs.web.events import Events
from amqpjobs.web.health import Probes
from amqpjobs.web.jobs import Jobs
from amqpjobs.web.openapi import Document
from amqpjobs.web.problems import ProblemRoute, answer_bug, answer_http_error
from amqpjobs.web.queues import Queues
from amqpjobs.web.requests import Requests
from amqpjobs.web.status import Status
from amqpjobs.web.tier import Tier
from amqpjobs.web.webhooks import Hooks

if TYPE_CHECKING:
    from amqpjobs.app import App

PATHS = ("jobs", "queues", "hooks", "healthz", "readyz")
"""What the paths of this API begin with."""


def create_api(app: "App", *, recorder: bool = True) -> FastAPI:
    """An ASGI application with the API of an app, for any server.

    Args:
        app: whose jobs.
        recorder: write the events of the workers into the store, from inside of this process.

    Raises:
        ConfigurationError: a job that cannot be one, or a hook without a secret.
    """
    tier = Tier(app, recorder=recorder)
    return api_of(tier)


def api_of(tier: Tier) -> FastAPI:
    """The API of a tier that somebody else may hold as well, to stop it."""
    api = FastAPI(
        title=tier.app.name,
        summary="Jobs over HTTP",
        lifespan=tier.lifespan,
        openapi_url=None,
        exception_handlers={HTTPException: answer_http_error, Exception: answer_bug},
    )
    document = APIRouter(route_class=ProblemRoute, dependencies=[Depends(tier.guard)])
    Document(api, tier).add_to(document)
    # Before the others: `/jobs/docs` is no job's status.
    api.include_router(document)
    api.include_router(router_of(tier))
    return api


def router_of(tier: Tier) -> APIRouter:
    """The routes of a tier, to be included in an application."""
    guarded = APIRouter(route_class=ProblemRoute, dependencies=[Depends(tier.guard)])
    # Before jobs: what ends with `/request`, say, or has `/signals/` in it, is no job's name.
    first = (Requests(tier), Durable(tier))
    for routes in (*first, Jobs(tier), Status(tier), Events(tier), Queues(tier)):
        routes.add_to(guarded)
    open_to_all = APIRouter(route_class=ProblemRoute)
    for each in (Hooks(tier), Probes(tier)):
        each.add_to(open_to_all)
    router = APIRouter(route_class=ProblemRoute)
    router.include_router(guarded)
    router.include_router(open_to_all)
    return router
