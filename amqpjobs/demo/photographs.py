"""Where photographs for the album are, and how to come by some where there are none.

Changes when there is another place to look for them.
"""

import os
import random
from collections.abc import Iterable
from colorsys import hsv_to_rgb
from importlib.resources import files
from math import sin
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageOps

CACHE = Path(os.environ.get("AMQPJOBS_CACHE") or "~/.cache/amqpjobs").expanduser()

OURS = Path(str(files("amqpjobs.demo").joinpath("photographs")))
"""Three real ones, which are small; ``CREDITS.md`` beside them says whose they are."""

PAINTED = (
    "Morning", "Noon", "Dusk", "Night", "Fjord", "Desert", "Glacier", "Heath", "Lagoon", "Canyon",
    "Harbour",
)  # fmt: skip
"""Names of the landscapes that are painted where there are not enough photographs."""

SIZE = 2400, 1600
"""Pixels of a painted one: what a small camera makes."""

TOO_LARGE = "Panorama"
TOO_LARGE_SIZE = 6200, 2600
"""Pixels of the one that is more than the album takes."""

MAKER, MODEL, TAKEN = 0x010F, 0x0110, 0x0132  # fields of EXIF


class PhotographsMissing(Exception):
    """There are none; the message says what to do instead."""


def photographs_here() -> list[Path]:
    """Those in ``ALBUM_PHOTOGRAPHS``: a folder or a photograph, or several with ``:`` between
    them. None if it is not set."""
    places = os.environ.get("ALBUM_PHOTOGRAPHS")
    if not places:
        return []
    found: list[Path] = []
    for place in map(Path, places.split(os.pathsep)):
        found += photographs_in(place) if place.is_dir() else [place]
    return sorted(found, key=lambda path: path.name.lower())


def photographs_in(folder: Path) -> list[Path]:
    """The photographs in a folder of your own.

    Raises:
        PhotographsMissing: there is none.
    """
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        raise PhotographsMissing(f"no .jpg file in {folder}")
    return [path.resolve() for path in found]


def paint_photographs(folder: Path) -> Iterable[Path]:
    """Paint landscapes into a folder, one at a time, and one that is too large among them."""
    for number, name in enumerate(PAINTED):
        yield _save(landscape(number), folder / f"{name}.jpg", name)
        if number == 2:
            flat = Image.linear_gradient("L").resize(TOO_LARGE_SIZE)
            large = ImageOps.colorize(flat, (60, 90, 160), (250, 220, 180))
            yield _save(large, folder / f"{TOO_LARGE}.jpg", TOO_LARGE)


def landscape(number: int) -> Image.Image:
    """A sky with its sun, hills one behind the other, and grain as of a camera."""
    dice = random.Random(number)  # noqa: S311 - the same pictures each time
    width, height = SIZE
    hue = (150 + 37 * number) % 256
    image = ImageOps.colorize(
        Image.linear_gradient("L").resize(SIZE), _colour(hue, 150, 110), _colour(hue + 60, 90, 255)
    )
    sun = Image.new("L", SIZE)
    x, y, r = dice.randrange(width), dice.randrange(height // 8, height // 2), height // 14
    ImageDraw.Draw(sun).ellipse((x - r, y - r, x + r, y + r), fill=255)
    # Blurred while it is small: the glow is as soft, and costs next to nothing.
    glow = sun.resize((width // 16, height // 16)).filter(ImageFilter.GaussianBlur(6)).resize(SIZE)
    image.paste((255, 246, 214), mask=glow)
    image.paste((255, 252, 238), mask=sun)
    draw = ImageDraw.Draw(image)
    for layer in range(5):
        phase, steep = dice.uniform(0, 6), dice.uniform(0.6, 1.6)
        base, rise = height * (0.5 + 0.11 * layer), height * 0.1
        ridge = [
            (x, base - rise * (sin(x / 300 * steep + phase) + 0.35 * sin(x / 57 + 2 * phase)))
            for x in range(0, width + 8, 8)
        ]
        colour = _colour(hue + 25 * layer, 70 + 25 * layer, 190 - 34 * layer)
        draw.polygon([(0, height), *ridge, (width, height)], fill=colour)
    grain = Image.effect_noise((width // 2, height // 2), 26).resize(SIZE)
    return Image.blend(image, Image.merge("RGB", (grain, grain, grain)), 0.07)


def _colour(hue: int, saturation: int, value: int) -> tuple[int, int, int]:
    """Red, green and blue; all of them from 0 to 255, the hue beyond that, too."""
    red, green, blue = hsv_to_rgb(hue % 256 / 256, saturation / 255, value / 255)
    return round(red * 255), round(green * 255), round(blue * 255)


def _save(image: Image.Image, target: Path, title: str) -> Path:
    exif = Image.Exif()
    exif[MAKER], exif[MODEL], exif[TAKEN] = "amqpjobs", title, "2026:05:01 12:00:00"
    part = target.with_suffix(".part")
    image.save(part, "JPEG", quality=88, exif=exif)
    return part.replace(target)  # whole or not at all: the page shows what is there
