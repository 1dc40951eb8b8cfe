"""Which messages a job takes, by their content type and encoding."""

import gzip
from typing import Any

import pytest

from amqpjobs import Bytes, MsgPack, Text
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.bodies import Body
from amqpjobs.jobs.message.content import received
from amqpjobs.jobs.message.properties import Properties


class Typed:
    content_type = "application/vnd.some+json; version=2"

    def load(self, data: bytes) -> Any:
        return data

    def dump(self, value: Any) -> bytes:
        return b""


class Untyped:
    def load(self, data: bytes) -> Any:
        return data

    def dump(self, value: Any) -> bytes:
        return b""


JSONS = (
    "application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "text/json",
    "application/vnd.api+json", "application/problem+json;q=1", "", None,
)  # fmt: skip


@pytest.mark.parametrize("content_type", JSONS)
def test_a_job_of_json_takes_json(content_type: str | None):
    """Whatever its sender calls it."""
    assert received(None, Properties(content_type), b"{}", 10) == b"{}"


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/octet-stream", "image/x+json", "json", "a/b+json"]
)
def test_a_job_of_json_refuses_all_else(content_type: str):
    """A stranger's bytes are not guessed at."""
    with pytest.raises(DecodeError, match="it must be application/json"):
        received(None, Properties(content_type), b"{}", 10)


@pytest.mark.parametrize(
    ("body", "taken", "refused"),
    [
        (
            MsgPack(),
            ["application/msgpack", "application/x-msgpack", "application/vnd.msgpack",
             "application/octet-stream", None],
            ["application/json", "text/plain"],
        ),
        (Bytes(), ["image/png", "application/json", None], []),
        (Text(), ["text/csv", "application/xml", None], []),
        (
            Typed(),
            ["application/vnd.some+json", "application/vnd.some+json;charset=utf-8", None],
            ["application/json"],
        ),
        (Untyped(), ["application/json", "x/y", None], []),
    ],
    ids=repr,
)  # fmt: skip
def test_a_format_takes_its_own(body: Body, taken: list[str | None], refused: list[str]):
    """None at all, and what says nothing. Without a content type of its own it takes all."""
    for content_type in taken:
        assert received(body, Properties(content_type), b"x", 10) == b"x"
    for content_type in refused:
        with pytest.raises(DecodeError, match=f"{type(body).__name__}, takes "):
            received(body, Properties(content_type), b"x", 10)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "identity", "binary", "us-ascii", "", None])
@pytest.mark.parametrize("body", [None, Bytes()], ids=repr)
def test_the_name_of_a_charset_is_no_compression(body: Body | None, encoding: str | None):
    """Kombu writes one with every message."""
    assert received(body, Properties(None, encoding), b"{}", 10) == b"{}"


@pytest.mark.parametrize("body", [None, Bytes()], ids=repr)
def test_compression_is_undone_first(body: Body | None):
    """With its limit; an encoding that is not known is refused."""
    assert received(body, Properties(None, "GZIP"), gzip.compress(b"{}"), 10) == b"{}"
    with pytest.raises(DecodeError, match="more than 10 bytes"):
        received(body, Properties(None, "gzip"), gzip.compress(b"x" * 11), 10)
    with pytest.raises(DecodeError, match="content encoding 'br' is not accepted"):
        received(body, Properties(None, "br"), b"", 10)
