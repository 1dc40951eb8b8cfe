"""For FastAPI applications: a lifespan, the app as a dependency, and the API as a router.

    from amqpjobs.web.fastapi import Jobs, lifespan, router

    api = FastAPI(lifespan=lifespan(app))
    api.include_router(router(app))

    @api.post("/orders")
    async def order(order: Order, jobs: Jobs) -> str:
        return (await jobs.enqueue(send_receipt.message(order))).id

Changes when FastAPI's ways do.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import HTTPConnection

from amqpjobs.app import App
from amqpjobs.errors import ConfigurationError
from amqpjobs.web.api import router_of
from amqpjobs.web.tier import Tier

__all__ = ["Jobs", "get_app", "lifespan", "router"]

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]

_STATE = "amqpjobs"


def lifespan(app: App, *others: Lifespan) -> Lifespan:
    """A lifespan that keeps the app's connection open: ``FastAPI(lifespan=lifespan(app))``.

    Args:
        app: whose connection; handlers get it as `Jobs`.
        others: the application's own lifespans. They are inside: what they start may enqueue, and
            when they end the connection is still open. What they yield is state, as in FastAPI.
    """

    @asynccontextmanager
    async def composed(api: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(app.lifespan())
            state: dict[str, Any] = {_STATE: app}
            for other in others:
                own: Mapping[str, Any] | None = await stack.enter_async_context(other(api))
                state |= own or {}
            yield state

    return composed


def get_app(connection: HTTPConnection) -> App:
    """The app whose `lifespan` the application has; a dependency, so that tests can override it.

    Raises:
        ConfigurationError: the application has none.
    """
    found = getattr(connection.state, _STATE, None)
    if not isinstance(found, App):
        raise ConfigurationError(
            "the application has no amqpjobs app: FastAPI(lifespan=lifespan(app)), with the "
            "lifespan of amqpjobs.web.fastapi; and its server has to run lifespans"
        )
    return found


Jobs = Annotated[App, Depends(get_app)]
"""A parameter of a handler: ``jobs: Jobs`` is the app."""


def router(app: App) -> APIRouter:
    """The routes of ``amqpjobs web``, to be included: /jobs, /queues, /hooks, /healthz, /readyz.

    They ask for ``AMQPJOBS_WEB_TOKEN``; without it they answer under the names of this machine
    only. ``dependencies=[...]`` of ``include_router`` adds your own guards to these, to all routes.
    The status of jobs is written by ``amqpjobs record``, which runs elsewhere.

    Args:
        app: whose jobs.

    Raises:
        ConfigurationError: a job that cannot be one, or a hook without a secret.
    """
    return router_of(Tier(app, recorder=False))
