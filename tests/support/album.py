"""The photo album as its users run it: a web tier and workers, in processes of their own."""

import io
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import Program, environment, running

APP = "amqpjobs.demo.album:app"
API = "amqpjobs.demo.web:api"

START_TIMEOUT = 60.0
"""Seconds; they import much, beside a browser that starts, on a machine with two cores."""


def jpeg(width: int, height: int, *, noisy: bool = False) -> bytes:
    """A photograph; a noisy one takes its time."""
    made = io.BytesIO()
    image = (
        Image.effect_noise((width, height), 80).convert("RGB")
        if noisy
        else Image.linear_gradient("L").resize((width, height)).convert("RGB")
    )
    image.save(made, "JPEG", quality=90)
    return made.getvalue()


def file(name: str, content: bytes) -> Any:
    """As a person chooses it."""
    return {"name": name, "mimeType": "image/jpeg", "buffer": content}


SMALL = jpeg(640, 480)


class Tier:
    """The web tier in a process, and where it is."""

    def __init__(self, broker: VirtualHost, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        here = folder / "here"
        here.mkdir()
        for name in ("Dunes.jpg", "Garden.jpg"):
            (here / name).write_bytes(SMALL)
        self.album = folder / "album"
        self.env = environment(
            broker.url, folder, AMQPJOBS_APP=APP, ALBUM_FOLDER=str(self.album),
            ALBUM_PHOTOGRAPHS=str(here),
            AMQPJOBS_STORE_URL=f"sqlite+aiosqlite:///{folder}/status.sqlite",
        )  # fmt: skip

    @contextmanager
    def serving(self) -> Iterator[Program]:
        """``amqpjobs web`` that is ready."""
        with running("web", "--asgi", API, "--port", str(self.port), env=self.env) as program:
            program.wait_for("web tier is ready", timeout=START_TIMEOUT)
            yield program

    @contextmanager
    def working(self) -> Iterator[Program]:
        """A worker that consumes."""
        with running("consume", "thumbnails", "--concurrency", "2", env=self.env) as worker:
            worker.wait_for("worker is ready", timeout=START_TIMEOUT)
            yield worker
