"""The web tier as tests use it: in this process, and as a program on a port of its own."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from amqpjobs import App
from amqpjobs.web.api import create_api
from tests.support.programs import ROOT, Program, running
from tests.support.waiting import PATIENCE

JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def client_of(api: FastAPI, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application in this process, inside of its lifespan."""
    async with api.router.lifespan_context(api) as state:
        app: Any = api if state is None else _stateful(api, state)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        options.setdefault("base_url", "http://localhost")
        async with httpx.AsyncClient(transport=transport, timeout=PATIENCE, **options) as client:
            yield client


def _stateful(api: FastAPI, state: Any) -> Any:
    """httpx runs no lifespan, and so does not hand its state on, as servers do."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await api({**scope, "state": dict(state)}, receive, send)

    return serve


@asynccontextmanager
async def served(
    app: App, *, recorder: bool = False, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API of an app, in this process."""
    async with client_of(create_api(app, recorder=recorder), **options) as client:
        yield client


@contextmanager
def serving(
    *arguments: str, env: dict[str, str], cwd: Path = ROOT
) -> Iterator[tuple[Program, str]]:
    """``amqpjobs web`` on a free port, ready; with its URL. Its store is beside the ledger."""
    store = f"sqlite:///{Path(env['JOBS_LEDGER']).with_name('status.db')}"
    env = {"AMQPJOBS_STORE_URL": store} | env
    with running("web", "--port", "0", *arguments, env=env, cwd=cwd) as program:
        # Frameworks and migrations take their time to import on a busy machine.
        program.wait_for("web tier is ready", timeout=60)
        yield program, str(program.logged("web tier is ready")[0]["url"])
