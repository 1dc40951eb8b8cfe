"""ASGI applications of users, to be served beside the API."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, WebSocket

from amqpjobs.web.fastapi import Jobs, lifespan
from tests.support.jobs import app, quick


def note(event: str) -> None:
    with Path(os.environ["JOBS_LEDGER"]).open("a") as ledger:
        ledger.write(json.dumps({"event": event, "n": 0}) + "\n")


@asynccontextmanager
async def own(api: FastAPI) -> AsyncIterator[dict[str, Any]]:
    note("up")
    yield {"motto": "ours"}
    # The connection is still there.
    await quick.later(99)
    note("down")


api = FastAPI(lifespan=lifespan(app, own))


@api.get("/")
async def home() -> dict[str, str]:
    return {"page": "home"}


@api.get("/jobsearch")
async def jobsearch() -> dict[str, str]:
    return {"page": "theirs, though it begins like ours"}


@api.post("/order/{n}")
async def order(n: int, jobs: Jobs) -> str:
    return (await jobs.enqueue(quick.message(n))).id


@api.get("/slow")
async def slow() -> str:
    note("slow")
    await asyncio.sleep(float(os.environ.get("SLOW", "60")))
    return "done"


@api.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


@asynccontextmanager
async def failing(api: FastAPI) -> AsyncIterator[None]:
    raise RuntimeError("no database")
    yield


broken = FastAPI(lifespan=failing)


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Knows nothing of lifespans."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"bare"})


not_callable = 7
