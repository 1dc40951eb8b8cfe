"""Bodies that are compressed: AMQP's ``content_encoding`` ``gzip`` or ``zstd``, made and undone.

Undone in one go with a limit: a small body may say that it becomes gigabytes. Changes when bodies
may be compressed in another way.
"""

import sys
import zlib
from functools import cache
from typing import Any, Final, NamedTuple

from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.hints import install

GZIP: Final = "gzip"
ZSTD: Final = "zstd"
ENCODINGS: Final = frozenset({GZIP, ZSTD})

SHOWN: Final = 64 * 2**20
"""Bytes that a body may become where it is only shown: it was larger on no broker by default."""

_GZIP = 16 + zlib.MAX_WBITS
"""zlib's number for the format of gzip (RFC 1952)."""

_LEVEL = 6

_WINDOW = 23
"""Of zstd: 8 MiB, which RFC 8878 recommends as the least that every decoder takes. A frame says how
much memory it needs, and would get it."""


class Compression(NamedTuple):
    """What a process compresses.

    Attributes:
        encoding: how.
        above: bodies of more bytes than this.
    """

    encoding: str
    above: int

    def of(self, body: bytes) -> str | None:
        """The encoding that a body is sent in; None for as it is."""
        return self.encoding if len(body) > self.above else None


def compression_of(encoding: str, above: int) -> Compression | None:
    """What the settings say; None for nothing.

    Raises:
        ConfigurationError: there is nothing to do it with.
    """
    if encoding not in ENCODINGS:
        return None
    if encoding == ZSTD and _zstd() is None:
        raise ConfigurationError(f"AMQPJOBS_COMPRESS=zstd: {_no_zstd()}")
    return Compression(encoding, above)


def accepted() -> str:
    """What this process can undo, as a header says it."""
    return GZIP if _zstd() is None else f"{GZIP}, {ZSTD}"


def compressed(body: bytes, encoding: str) -> bytes:
    """A body in an encoding. The same body is always the same bytes.

    Raises:
        DecodeError: zstd, and there is nothing to do it with.
    """
    if encoding == ZSTD:
        made: bytes = _needed().compress(body)
        return made
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(body) + packer.flush()


def decompressed(body: bytes, encoding: str, largest: int) -> bytes:
    """What a body was before.

    Args:
        encoding: ``gzip`` or ``zstd``.
        largest: bytes that it may become.

    Raises:
        DecodeError: it is malformed or cut off, or becomes more; or zstd is not installed.
    """
    try:
        unpacker: Any = _unpacker(encoding)
        data: bytes = unpacker.decompress(body, largest + 1)
    except DecodeError:
        raise
    except Exception as error:  # noqa: BLE001 - zlib.error, and what the library of zstd has
        raise DecodeError(f"the body is not {encoding}: {error}") from None
    if len(data) > largest:
        raise DecodeError(
            f"the body becomes more than {largest} bytes when its {encoding} is undone; "
            "AMQPJOBS_MAX_MESSAGE_SIZE is the limit"
        )
    if not unpacker.eof or unpacker.unused_data:
        words = "has something behind it" if unpacker.eof else "is cut off"
        raise DecodeError(f"the body is {encoding} that {words}")
    return data


def readable(body: bytes, encoding: str | None) -> bytes:
    """A body for people: undone if it can be, else as it is."""
    if encoding is None or encoding.lower() not in ENCODINGS:
        return body
    try:
        return decompressed(body, encoding.lower(), SHOWN)
    except DecodeError:
        return body


def _unpacker(encoding: str) -> Any:
    if encoding == GZIP:
        return zlib.decompressobj(_GZIP)
    zstd = _needed()
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW})


def _needed() -> Any:
    zstd = _zstd()
    if zstd is None:
        raise DecodeError(f"the body is zstd: {_no_zstd()}")
    return zstd


def _no_zstd() -> str:
    return f"Python has it from 3.14; until then: {install('amqpjobs[zstd]')}"


@cache
def _zstd() -> Any:
    """The module, wherever it comes from: both have the same names."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd  # type: ignore[import-not-found]
    except ImportError:
        return None
    return zstd
