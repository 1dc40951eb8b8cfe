"""The album's web tier: photographs are put in on a page, which shows what becomes of each.

``amqpjobs web --app amqpjobs.demo.album:app --asgi amqpjobs.demo.web:api``

The browser makes up each photograph's id. It is the id of its job and the name of its files, too:
whoever sends a photograph twice, since an answer got lost, gets one photograph; and what a file was
called on somebody's disk is for people, and no path of ours.
"""

import io
import os
import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated
from uuid import UUID

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from PIL import Image
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent

from amqpjobs.demo.album import FORMATS, Photograph, add_to_album, app
from amqpjobs.demo.guide import guide
from amqpjobs.demo.photographs import CACHE, PhotographsMissing, photographs_here
from amqpjobs.errors import PublishError
from amqpjobs.jobs.message.status import JobStatus

PAGE = Path(__file__).with_name("page")

ALBUM = Path(os.environ.get("ALBUM_FOLDER") or CACHE / "album").resolve()
"""Where photographs go. Workers write there as well: it is a folder that both see."""

INCOMING = ALBUM / "incoming"

LARGEST_FILE = 25_000_000
"""Bytes of one photograph."""

MOST = 1_000
"""Photographs that are kept. Whoever has more than a page to show deletes what is old."""

MOST_WATCHED = 200
"""Photographs that one page follows."""

SHARED = os.environ.get("ALBUM_SHARED") == "1"
"""Whether every page shows what all of them have put in: for a show, where all is one person's."""

CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

UNCHANGING = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}

Title = Annotated[str, Query(alias="name", min_length=1, max_length=255)]

newest: deque["Named"] = deque(maxlen=MOST_WATCHED)
"""What all pages have put in, as far as this process knows."""

api = FastAPI(title="Photo album", lifespan=app.lifespan)
api.mount("/page", StaticFiles(directory=PAGE), name="page")
api.include_router(guide)


class Here(BaseModel):
    """A photograph that is on the server already."""

    name: str
    bytes: int


class Taken(BaseModel):
    """A photograph whose job is in the queue."""

    id: UUID


class Named(BaseModel):
    """A photograph and what it is called."""

    id: UUID
    name: str


class Others(BaseModel):
    """What all pages have put in; nothing where that is nobody's business."""

    shared: bool
    photographs: list[Named]


class Known(BaseModel):
    """What is known of a photograph.

    Attributes:
        order: of two of them, the newer has the greater.
    """

    id: str
    state: str
    ended: bool
    progress: float | None
    detail: str
    error: str | None
    order: tuple[int, int, bool, int]


@api.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The page."""
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
    return FileResponse(PAGE / "index.html", headers=headers)


@api.get("/photographs")
def others() -> Others:
    """What was put in on any page, the newest last."""
    return Others(shared=SHARED, photographs=list(newest))


@api.get("/photographs/here")
def here() -> list[Here]:
    """The photographs that may be chosen, since they are here already."""
    return [Here(name=path.name, bytes=path.stat().st_size) for path in those_here()]


@api.get("/photographs/here/{name}")
def preview(name: str) -> Response:
    """A small picture of one of them."""
    return Response(small(here_called(name)), media_type="image/jpeg", headers=UNCHANGING)


@lru_cache(maxsize=200)
def small(path: Path) -> bytes:
    """A JPEG file of a few kilobytes."""
    made = io.BytesIO()
    with Image.open(path, formats=FORMATS) as image:
        image.thumbnail((240, 240))
        image.convert("RGB").save(made, "JPEG", quality=80)
    return made.getvalue()


@api.get("/photographs/events")
async def events(
    ids: Annotated[list[UUID], Query(alias="id", min_length=1, max_length=MOST_WATCHED)],
) -> EventSourceResponse:
    """What becomes of these photographs: first what is known of each, then whatever happens. The
    stream ends when all of them are over.

    One stream for all: a browser keeps only six connections to a server.
    """
    send, receive = anyio.create_memory_object_stream[ServerSentEvent](100)

    async def feed() -> None:
        async with send:
            async with anyio.create_task_group() as watchers:
                for photograph in set(ids):
                    watchers.start_soon(follow, str(photograph), send)
            await send.send(ServerSentEvent(event="end", data="all are over"))

    return EventSourceResponse(receive, data_sender_callable=feed, ping=15)


async def follow(photograph: str, send: MemoryObjectSendStream[ServerSentEvent]) -> None:
    """Send whatever becomes of one photograph, until it is over."""
    async with aclosing(app.watch(photograph)) as statuses:
        async for status in statuses:
            await send.send(ServerSentEvent(data=known(status).model_dump_json(), retry=1000))


def known(status: JobStatus) -> Known:
    """What a page is told of a photograph."""
    return Known(
        id=status.id,
        state=status.state,
        ended=status.ended,
        progress=status.progress,
        detail=status.detail,
        error=status.error,
        order=(status.epoch, status.attempt, status.ended, status.sequence),
    )


@api.put("/photographs/{photograph}", status_code=202)
async def take(photograph: UUID, title: Title, request: Request) -> Taken:
    """Take a photograph in, as the body. It is looked at by the job, not here."""
    if int(request.headers.get("content-length") or 0) > LARGEST_FILE:
        raise too_large()
    with arriving(photograph) as part:
        async with await anyio.open_file(part, "xb") as file:
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > LARGEST_FILE:
                    raise too_large()
                await file.write(chunk)
    return await enqueue(photograph, title)


@api.put("/photographs/{photograph}/from/{name}", status_code=202)
async def choose(photograph: UUID, name: str) -> Taken:
    """Take one of those that are here."""
    path = here_called(name)
    with arriving(photograph) as part:
        part.symlink_to(path)
    return await enqueue(photograph, name)


@api.get("/photographs/{photograph}/{size}")
def picture(photograph: UUID, size: str) -> FileResponse:
    """A picture in the size ``thumbnail`` or ``web``."""
    made = files(photograph, "")
    path = {"thumbnail": made.thumbnail, "web": made.web}.get(size)
    if path is None or not path.is_file():
        raise HTTPException(404, "there is no such picture")
    return FileResponse(path, media_type="image/jpeg", headers=UNCHANGING)


def files(photograph: UUID, title: str) -> Photograph:
    """Where the files of a photograph are, made or not."""
    return Photograph(path=INCOMING / str(photograph), album=ALBUM, title=title)


async def enqueue(photograph: UUID, title: str) -> Taken:
    """Put the job into the queue; its id is the photograph's."""
    message = add_to_album.message(files(photograph, " ".join(title.split())))
    try:
        await app.enqueue(replace(message, id=str(photograph)))
    except PublishError as error:
        raise HTTPException(
            503, "the queue takes no photographs just now", {"Retry-After": "2"}
        ) from error
    if SHARED:
        newest.append(Named(id=photograph, name=title))
    return Taken(id=photograph)


def those_here() -> list[Path]:
    """What there is to choose from; nothing, if nobody has fetched any."""
    try:
        return photographs_here()
    except PhotographsMissing:
        return []


def here_called(name: str) -> Path:
    """Which of those that are here. The name is looked for in a list, and never a path."""
    for path in those_here():
        if path.name == name:
            return path.resolve()
    raise HTTPException(404, "there is no such photograph here")


@contextmanager
def arriving(photograph: UUID) -> Iterator[Path]:
    """Where to write an original, which is there whole or not at all."""
    INCOMING.mkdir(parents=True, exist_ok=True)
    if len(os.listdir(INCOMING)) >= MOST:  # noqa: PTH208 - counts, and builds no paths
        raise HTTPException(507, f"the album is full: it keeps {MOST} photographs")
    part = INCOMING / f".{photograph}.{secrets.token_hex(4)}"
    try:
        yield part
        part.replace(INCOMING / str(photograph))
    finally:
        part.unlink(missing_ok=True)


def too_large() -> HTTPException:
    """Said before all of it was taken in."""
    return HTTPException(413, f"a photograph may have up to {LARGEST_FILE // 1_000_000} MB")
