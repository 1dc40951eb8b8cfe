"""What the album's job makes of files that strangers send."""

import io
import os
import struct
import time
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import Image

from amqpjobs import Reject
from amqpjobs.demo.album import Photograph, Size, add_to_album, tidy
from tests.support.album import jpeg


def png(width: int, height: int) -> bytes:
    """The header of one, and nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


def saved(form: str) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (400, 200), "teal").save(made, form)
    return made.getvalue()


def photograph(content: bytes, folder: Path, title: str = "Holiday.jpg") -> Photograph:
    """As the web tier stores one: under an id, without a suffix."""
    path = folder / "0b9d3f5c-27b5-4a6e-9a34-7c9d2c9c3f11"
    path.write_bytes(content)
    return Photograph(path=path, album=folder / "album", title=title)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Holiday.jpg is not a JPEG, PNG or WebP file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a JPEG, PNG or WebP file"),
        (saved("GIF"), "is not a JPEG, PNG or WebP file"),
        (jpeg(800, 600, noisy=True)[:20_000], "Holiday.jpg is broken: image file is truncated"),
        (png(400, 300), "Holiday.jpg is broken"),
        (png(5000, 4000), "too large: 5000 x 4000 are 20.0 megapixels, the album takes up to 15"),
        (png(50_000, 50_000), "Holiday.jpg is far too large"),
    ],
    ids=["empty", "SVG", "GIF", "truncated", "without data", "large", "bomb"],
)
def test_what_will_not_be_better_next_time_is_refused_by_its_title(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    """A dead letter at once, with a reason that a person understands, and no file of it."""
    given = photograph(content, tmp_path)
    with pytest.raises(Reject, match=reason):
        add_to_album(given)
    assert not given.thumbnail.exists()
    assert not given.web.exists()


def test_a_bomb_of_the_size_that_pillow_only_warns_of_is_refused(tmp_path: Path) -> None:
    """Its warning is no protection."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(Reject, match="is too large: 12000 x 10000"):
            add_to_album(photograph(png(12_000, 10_000), tmp_path))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_each_format_becomes_two_jpeg_files(form: str, tmp_path: Path) -> None:
    """Named after the photograph's id, whatever it was."""
    given = photograph(saved(form), tmp_path)
    sizes = add_to_album(given)
    assert sizes.thumbnail == Size(width=256, height=128)
    for path in (given.thumbnail, given.web):
        assert path.suffix == ".jpg"
        with Image.open(path) as image:
            assert image.format == "JPEG"


def test_a_file_that_is_away_is_tried_again(tmp_path: Path) -> None:
    """The disk's trouble is none of the photograph's: the retry policy decides."""
    given = photograph(saved("PNG"), tmp_path)
    given.path.unlink()
    with pytest.raises(FileNotFoundError):
        add_to_album(given)


def test_what_is_old_goes_from_every_folder(tmp_path: Path) -> None:
    """And nothing else: neither what is new, nor what is beside the album's own folders."""
    folders = ("incoming", "thumbnails", "web", "beside")
    for folder in folders:
        (tmp_path / folder).mkdir()
        for name, days in (("old.jpg", 31), ("new.jpg", 29)):
            (tmp_path / folder / name).touch()
            os.utime(tmp_path / folder / name, (time.time() - days * 86_400,) * 2)
    assert tidy(tmp_path) == 3
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg")}
    assert left == {"beside/old.jpg", *(f"{folder}/new.jpg" for folder in folders)}
    assert tidy(tmp_path / "nowhere") == 0
