"""Compressed bodies: undone as they were, within a limit, and never trusted."""

import contextlib
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.message import compression
from amqpjobs.jobs.message.compression import (
    GZIP,
    ZSTD,
    Compression,
    accepted,
    compressed,
    compression_of,
    decompressed,
    readable,
)
from amqpjobs.jobs.message.headers import accept_header, accepts

HAS_ZSTD = compression._zstd() is not None
KINDS = [GZIP, ZSTD] if HAS_ZSTD else [GZIP]
LIMIT = 1000


@pytest.mark.parametrize("kind", KINDS)
@given(body=st.binary(max_size=LIMIT))
def test_a_body_comes_back(kind: str, body: bytes) -> None:
    """Any; and the same bytes each time, by which redeliveries are told from other messages."""
    small = compressed(body, kind)
    assert decompressed(small, kind, LIMIT) == body
    assert compressed(body, kind) == small


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_is_refused_before_it_goes_off(kind: str) -> None:
    """Never more than the limit is made of it."""
    bomb = compressed(bytes(100_000_000), kind)
    assert len(bomb) < 200_000
    with pytest.raises(DecodeError, match="more than 1000 bytes"):
        decompressed(bomb, kind, LIMIT)
    assert decompressed(compressed(bytes(LIMIT), kind), kind, LIMIT) == bytes(LIMIT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["cut", "more", "none", "other", "flipped"])
def test_what_is_malformed_is_refused(kind: str, change: str) -> None:
    """Cut off, with something behind it, or another thing."""
    good = compressed(b"{}" * 100, kind)
    body = {
        "cut": good[:-3], "more": good + good, "none": b"", "other": b"{}",
        "flipped": good[:-2] + bytes((good[-2] ^ 255, good[-1])),
    }[change]  # fmt: skip
    if change == "flipped" and kind == ZSTD:
        return  # it has no check sum by default
    with pytest.raises(DecodeError, match=kind):
        decompressed(body, kind, LIMIT)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_else(body: bytes) -> None:
    """Strangers write them."""
    for kind in KINDS:
        with contextlib.suppress(DecodeError):
            decompressed(body, kind, LIMIT)


def test_other_programs_write_it_as_well() -> None:
    """It is the format of gzip, and no other of zlib's."""
    assert decompressed(gzip.compress(b"{}"), GZIP, LIMIT) == b"{}"
    assert gzip.decompress(compressed(b"{}", GZIP)) == b"{}"
    with pytest.raises(DecodeError):
        decompressed(zlib.compress(b"{}"), GZIP, LIMIT)


@pytest.mark.skipif(not HAS_ZSTD, reason="amqpjobs[zstd] is not installed")
def test_a_frame_that_needs_much_memory_is_refused() -> None:
    """It says so itself, and would get it."""
    zstd = compression._zstd()
    options = {zstd.CompressionParameter.window_log: 27}
    packer = zstd.ZstdCompressor(options=options)
    body = packer.compress(b"x" * 100) + packer.flush()
    with pytest.raises(DecodeError, match="zstd"):
        decompressed(body, ZSTD, LIMIT)


def test_without_zstd_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a process is to write it, and when one is to read it."""
    monkeypatch.setattr(compression, "_zstd", lambda: None)
    assert accepted() == "gzip"
    with pytest.raises(ConfigurationError, match=r"amqpjobs\[zstd\]"):
        compression_of(ZSTD, 1)
    with pytest.raises(DecodeError, match=r"amqpjobs\[zstd\]"):
        decompressed(b"x", ZSTD, LIMIT)


def test_the_settings_say_what_is_compressed() -> None:
    """Nothing by default."""
    assert compression_of("off", 16_384) is None
    assert compression_of(GZIP, 10) == Compression(GZIP, 10)
    assert Compression(GZIP, 10).of(b"x" * 10) is None
    assert Compression(GZIP, 10).of(b"x" * 11) == GZIP


def test_people_see_what_it_was() -> None:
    """And the bytes as they are, where that cannot be."""
    assert readable(compressed(b"{}", GZIP), "GZip") == b"{}"
    for encoding in (None, "gzip", "br", "utf-8"):
        assert readable(b"\xff", encoding) == b"\xff"


def test_a_caller_says_what_it_can_undo() -> None:
    """Nonsense of strangers is nothing."""
    assert accepts(accept_header("gzip, zstd"), ZSTD)
    assert not accepts(accept_header("gzip"), ZSTD)
    for nonsense in (None, 7, b"gzip", ["gzip"], "gzipped", "x" * 5000):
        assert not accepts({"amqpjobs-accept": nonsense}, GZIP)
