"""The formats of bodies by themselves, and how they are declared."""

import json
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest

import amqpjobs
from amqpjobs import App, Bytes, CloudEvent, Json, MsgPack, Router, Text
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.message.bodies import body_of


class Csv:
    """A format of a user's."""

    content_type = "text/csv"

    def load(self, data: bytes) -> list[str]:
        return data.decode().split(",")

    def dump(self, value: Any) -> bytes:
        return ",".join(value).encode()


class Configured(Csv):
    def __init__(self, separator: str) -> None:
        self.separator = separator


class Asynchronous(Csv):
    async def load(self, data: bytes) -> list[str]:  # type: ignore[override]
        return []


@pytest.mark.parametrize("given", [None, Json, Json()])
def test_json_is_no_format_of_its_own(given: Any):
    """So a job that names it takes the same path as one that names none."""
    assert body_of(given) is None


@pytest.mark.parametrize(("given", "kind"), [(MsgPack, MsgPack), (Text(), Text), (Csv, Csv)])
def test_a_class_is_instantiated(given: Any, kind: type):
    """`body=MsgPack` and `body=MsgPack()` are the same."""
    assert type(body_of(given)) is kind


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (json, "the module 'json'"),
        (pickle, "the module 'pickle'"),
        ("json", "has no load"),
        (object(), "has no load"),
        (Configured, "body=Configured\\(...\\)"),
        (Asynchronous, "write a `def`"),
    ],
)
def test_what_is_no_format_is_refused(given: Any, words: str):
    """The error says what to write."""
    with pytest.raises(ConfigurationError, match=words):
        body_of(given)


@pytest.mark.parametrize("body", [Bytes, Text, CloudEvent])
def test_a_format_of_one_value_takes_one_parameter(body: Any):
    """The job is refused where it is declared."""
    app = App("formats")
    with pytest.raises(ConfigurationError, match="one parameter, and this one takes 2"):

        @app.job(queue="q", body=body)
        async def two(a: bytes, b: bytes) -> None: ...

    with pytest.raises(ConfigurationError, match="one parameter, and this one takes 0"):

        @app.job(queue="q", body=body)
        async def none() -> None: ...


def test_a_job_of_a_router_has_a_format():
    """As one of an app."""
    router = Router(prefix="r")

    @router.job(queue="q", body=Text)
    async def note(line: str) -> None: ...

    app = App("formats")
    app.include(router)
    assert note.message("ä").body == "ä".encode()
    assert note.message("ä").content_type == "text/plain"
    assert repr(definition_of(note).body) == "Text()"


def test_text_is_text_or_a_number():
    """Anything else has no one way to be text."""
    text = Text()
    assert [text.dump(each) for each in ("a", 5, 1.5)] == [b"a", b"5", b"1.5"]
    for value in (True, None, [1], b"x"):
        with pytest.raises(TypeError, match="body=Text sends"):
            text.dump(value)
    with pytest.raises(UnicodeDecodeError):
        text.load(b"\xff")


def test_bytes_are_bytes():
    """A text has no encoding by itself."""
    assert Bytes().dump(bytearray(b"x")) == b"x"
    assert Bytes().dump(memoryview(b"x")) == b"x"
    with pytest.raises(TypeError, match="body=Bytes sends bytes"):
        Bytes().dump("x")


def test_msgpack_refuses_what_it_does_not_mean():
    """Something behind it, extension types, keys that are numbers, what is cut off."""
    packed = MsgPack()
    for data in (
        b"\x01\x02",
        msgpack.packb(msgpack.ExtType(5, b"x")),
        b"\x81\x01\x02",
        b"\x92\x01",
    ):
        with pytest.raises(Exception):  # noqa: B017, PT011 - msgpack has many
            packed.load(data)
    assert MsgPack(any_keys=True).load(b"\x81\x01\x02") == {1: 2}
    assert packed.load(b"\xc4\x01\xff") == b"\xff"


def test_msgpack_reads_timestamps_and_writes_them_if_told():
    """Both as the same moment."""
    moment = datetime(2026, 11, 30, 1, 2, 3, 456789, tzinfo=UTC)
    data = MsgPack(timestamps=True).dump(moment)
    assert data[0] == 0xD7  # the timestamp type of 8 bytes
    assert MsgPack().load(data) == moment
    assert (
        repr(MsgPack(timestamps=True, any_keys=True)) == "MsgPack(timestamps=True, any_keys=True)"
    )


def test_msgpack_is_imported_by_who_uses_it():
    """And its absence is an error where the job is declared, which names the extra: no worker
    without it turns messages into dead letters."""
    code = (
        "import sys, amqpjobs; amqpjobs.MsgPack; assert 'msgpack' not in sys.modules\n"
        "sys.modules['msgpack'] = None\n"
        "app = amqpjobs.App('x')\n"
        "try: app.job(queue='q', body=amqpjobs.MsgPack)(lambda: None)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ConfigurationError body=MsgPack needs msgpack:")
    assert "amqpjobs[msgpack]" in done.stdout


def test_a_format_costs_no_import():
    """`import amqpjobs` with its formats imports no pydantic."""
    code = "import sys; from amqpjobs import Bytes, MsgPack; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert issubclass(MsgPack, amqpjobs.Body)
