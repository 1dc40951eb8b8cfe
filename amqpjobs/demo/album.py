"""An album: each photograph as a thumbnail and in a size for the web, without its EXIF data.

``amqpjobs consume thumbnails --app amqpjobs.demo.album:app`` is a worker for it. What is old goes
by the job ``tidy``.
"""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, Field

from amqpjobs import App, Context, Queue, Reject

THUMBNAIL = 256
"""Pixels of the longer side."""

WEB = 1600
"""Pixels of the longer side. A smaller photograph keeps its size."""

LARGEST = 15_000_000
"""Pixels of the largest photograph that the album takes: decoded, it is 45 MB."""

FORMATS = ("JPEG", "PNG", "WEBP")
"""What is looked for in a file. Pillow knows many more, which no camera writes."""

app = App("photos")
thumbnails = Queue("thumbnails", priorities={"high": 6, "normal": 3, "low": 1})


class Photograph(BaseModel):
    """A photograph, the folder of the album that it goes into, and what people call it."""

    path: Path
    album: Path
    title: str = ""

    @property
    def shown(self) -> str:
        """Its title, or else the name of its file."""
        return self.title or self.path.name

    @property
    def thumbnail(self) -> Path:
        """Where its thumbnail is written."""
        return self.album / "thumbnails" / f"{self.path.stem}.jpg"

    @property
    def web(self) -> Path:
        """Where its web size is written."""
        return self.album / "web" / f"{self.path.stem}.jpg"


class Size(BaseModel):
    """Pixels."""

    width: int
    height: int


class Sizes(BaseModel):
    """What one photograph became."""

    thumbnail: Size
    web: Size


# A plain `def` runs in a thread of the worker. Pillow gives up Python's lock while it decodes,
# scales and encodes, so threads use all cores, and starting one costs nothing. What strangers send
# is bounded by its pixels and formats; `cpu=True, memory_limit=...` would add a process to kill.
@app.job(queue=thumbnails, timeout=30)
def add_to_album(ctx: Context, photograph: Photograph) -> Sizes:
    """Write both sizes of a photograph. It may run twice: the second run writes the same again."""
    ctx.progress(0.1, "reading")
    web = scaled(photograph)
    ctx.progress(0.6, "web size")
    colours = web.info.get("icc_profile")
    web.info.clear()  # comments, XMP and the like, which Pillow would write again
    thumbnail = web.copy()
    thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
    write(web, photograph.web, colours)
    ctx.progress(0.9, "thumbnail")
    write(thumbnail, photograph.thumbnail, colours)
    ctx.log.info("added", extra={"photograph": photograph.path.name})
    return Sizes(
        thumbnail=Size(width=thumbnail.width, height=thumbnail.height),
        web=Size(width=web.width, height=web.height),
    )


@app.job(queue=thumbnails, timeout=300)
def tidy(ctx: Context, album: Path, days: Annotated[float, Field(gt=0)] = 30) -> int:
    """Remove what has been in an album for so many days. It may run twice, and at the same time.

    Returns:
        How many files this run removed.
    """
    oldest = time.time() - days * 86_400
    removed = 0
    for folder in ("incoming", "thumbnails", "web"):
        for path in album.joinpath(folder).glob("*"):
            with suppress(FileNotFoundError):  # another run was there before
                if path.lstat().st_mtime < oldest:
                    path.unlink()
                    removed += 1
    ctx.log.info("tidied", extra={"removed": removed})
    return removed


def scaled(photograph: Photograph) -> Image.Image:
    """The photograph in its web size, upright.

    Raises:
        Reject: what is in the file will not be better next time. Strangers upload files.
    """
    with photograph.path.open("rb") as file:
        try:
            with Image.open(file, formats=FORMATS) as image:  # reads the header only
                if image.width * image.height > LARGEST:
                    raise Reject(
                        f"{photograph.shown} is too large: {image.width} x {image.height} are "
                        f"{image.width * image.height / 1e6:.1f} megapixels, the album takes up to "
                        f"{LARGEST / 1e6:g}"
                    )
                image.thumbnail((WEB, WEB))
                return ImageOps.exif_transpose(image).convert("RGB")
        except UnidentifiedImageError:
            raise Reject(f"{photograph.shown} is not a JPEG, PNG or WebP file") from None
        except Image.DecompressionBombError:
            raise Reject(f"{photograph.shown} is far too large") from None
        except (OSError, SyntaxError, ValueError) as error:
            if getattr(error, "errno", None) is not None:
                raise  # the disk's, which may be better next time
            raise Reject(f"{photograph.shown} is broken: {error}") from error


def write(image: Image.Image, target: Path, colours: bytes | None) -> None:
    """Write a JPEG whole or not at all: the job may be killed, or be run by two workers at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with part.open("xb") as file:
            image.save(file, "JPEG", quality=85, optimize=True, icc_profile=colours)
            file.flush()
            os.fsync(file.fileno())  # on disk before RabbitMQ is told that it is done
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
