"""A wheel of the amqpjobs that runs here. Changes when the form of wheels does.

A project that was made by an amqpjobs from a checkout or a wheel cannot get that one from an index,
neither in a fresh environment nor in an image. So it takes it along.
"""

import base64
import hashlib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import amqpjobs
from amqpjobs.errors import ConfigurationError

MADE = (2020, 2, 2, 0, 0, 0)
"""The date of each file, so that the same package makes the same wheel."""

MODE = 0o644 << 16

KEPT = frozenset({"METADATA", "WHEEL", "entry_points.txt"})
"""Of the folder ``*.dist-info``, beside licenses; the rest says how it was installed here."""


def installed() -> Distribution:
    """What is installed as amqpjobs.

    Raises:
        ConfigurationError: it runs from a folder, and is not installed.
    """
    try:
        return distribution("amqpjobs")
    except PackageNotFoundError:
        folder = _package().parent
        raise ConfigurationError(
            f"amqpjobs runs from {folder} and is not installed: pip install --editable {folder}"
        ) from None


def is_from_an_index(installed: Distribution) -> bool:
    """Whether it can be had by its name: installers note a URL or a path that it came from
    (https://packaging.python.org/en/latest/specifications/direct-url/)."""
    return installed.read_text("direct_url.json") is None


def write_wheel(installed: Distribution, folder: Path) -> str:
    """Pack what runs here (https://packaging.python.org/en/latest/specifications/binary-distribution-format/).

    Returns:
        The name of the file.
    """
    name = f"amqpjobs-{installed.version}-py3-none-any.whl"
    record = f"amqpjobs-{installed.version}.dist-info/RECORD"
    lines: list[str] = []
    with ZipFile(folder / name, "x") as wheel:
        for path, content in (*_of_the_package(), *_about_it(installed)):
            _add(wheel, path, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            lines.append(f"{path},sha256={digest.decode()},{len(content)}\n")
        _add(wheel, record, "".join((*lines, f"{record},,\n")).encode())
    return name


def _package() -> Path:
    return Path(amqpjobs.__file__).parent


def _of_the_package() -> Iterator[tuple[str, bytes]]:
    for path in sorted(_package().rglob("*")):
        if path.is_file() and path.parent.name != "__pycache__":
            yield str(PurePosixPath("amqpjobs", path.relative_to(_package()))), path.read_bytes()


def _about_it(installed: Distribution) -> Iterator[tuple[str, bytes]]:
    for path in installed.files or ():
        folder, *rest = path.parts
        if folder.endswith(".dist-info") and (path.name in KEPT or rest[0] == "licenses"):
            yield str(path), path.read_binary()


def _add(wheel: ZipFile, path: str, content: bytes) -> None:
    info = ZipInfo(path, MADE)
    info.external_attr = MODE
    wheel.writestr(info, content, ZIP_DEFLATED)
