"""Hostile messages: bodies and properties that no well-meaning client would send.

Each is a `Hostile`: what is sent, byte for byte, and what has to become of it.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

Fate = Literal["done", "dead", "parked", "dropped"]

MEBI: Final = 2**20

FLAGS: Final = {
    "content_type": 15, "content_encoding": 14, "headers": 13, "delivery_mode": 12, "priority": 11,
    "correlation_id": 10, "reply_to": 9, "expiration": 8, "message_id": 7, "timestamp": 6,
    "type": 5, "user_id": 4, "app_id": 3, "cluster_id": 2,
}  # fmt: skip
"""The bit of each property, in the order in which they are written."""


@dataclass(frozen=True)
class Hostile:
    """One message.

    Attributes:
        name: what is wrong with it.
        queue: where it goes.
        body: its body.
        properties: flags and fields, as in a content header.
        fate: what has to become of it; several where brokers or versions may differ.
    """

    name: str
    queue: str
    body: bytes
    properties: bytes
    fate: tuple[Fate, ...]


def short(text: bytes | str) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return bytes([len(data)]) + data


def long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def text(value: str | bytes) -> bytes:
    """A header's value: a string."""
    return b"S" + long(value.encode() if isinstance(value, str) else value)


def table(*entries: tuple[str | bytes, bytes]) -> bytes:
    """The entries of a field table; values with their tags."""
    return b"".join(short(name) + value for name, value in entries)


def properties(**given: str | bytes | int) -> bytes:
    """Properties with whatever is given in them; `headers` as the bytes of the entries."""
    flags, fields = 0, b""
    for name, bit in FLAGS.items():
        value = given.get(name)
        if value is None:
            continue
        flags |= 1 << bit
        if name == "headers":
            assert isinstance(value, bytes)
            fields += long(value)
        elif name in ("delivery_mode", "priority"):
            assert isinstance(value, int)
            fields += bytes([value])
        elif name == "timestamp":
            fields += struct.pack(">Q", value)
        else:
            assert not isinstance(value, int)
            fields += short(value)
    return struct.pack(">H", flags) + fields


GOOD_ITEM: Final = json.dumps({"number": 1, "text": "x"}).encode()


def bodies(random: Random, *, heavy: bool) -> Iterator[Hostile]:
    """F17. `heavy` adds what takes the broker seconds."""

    def item(name: str, body: bytes, *fate: Fate, kind: str = "item") -> Hostile:
        given = properties(type=kind, message_id=f"b-{name}", delivery_mode=2)
        return Hostile(name, "work", body, given, fate or ("dead",))

    yield item("good", GOOD_ITEM, "done")
    yield item("empty", b"")
    yield item("zeros", bytes(1000))
    for number in range(20):
        yield item(f"random-{number}", random.randbytes(random.randint(1, 5000)))
    yield item("over the limit", b'{"number": 1, "text": "' + b"x" * 2 * MEBI + b'"}')
    if heavy:
        # 16 MiB is what RabbitMQ 4 takes at most.
        yield item("16 MiB", b'{"number": 1, "text": "' + b"x" * (16 * MEBI - 25) + b'"}')
        yield item("16 MiB of noise", random.randbytes(16 * MEBI))
    yield item("deep arrays", b"[" * 100_000 + b"]" * 100_000)
    yield item("deep objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    yield item("never closed", b"[" * 500_000)
    yield item("bad UTF-8", b'{"number": 1, "text": "\xff\xfe"}')
    yield item("overlong UTF-8", b'{"number": 1, "text": "\xc0\x80"}')
    yield item("UTF-16", GOOD_ITEM.decode().encode("utf-16"))
    yield item("byte order mark", b"\xef\xbb\xbf" + GOOD_ITEM)
    yield item("lone surrogate", b'{"number": 1, "text": "\\ud800"}')
    yield item("not a number", b'{"number": NaN, "text": "x"}')
    yield item("a huge number", b'{"number": ' + b"9" * 5000 + b', "text": "x"}')
    yield item("a huge exponent", b'{"number": 1e999999999, "text": "x"}')
    yield item("two documents", GOOD_ITEM + GOOD_ITEM)
    yield item("wrong schema", b'{"number": "one", "text": 1}')
    yield item("missing field", b'{"number": 1}')
    yield item("an array", b"[1, 2]")
    yield item("null", b"null")
    yield item("pickle", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.")
    yield item("unknown type", GOOD_ITEM, "parked", kind="nobody")
    yield item("unknown type of 255", GOOD_ITEM, "parked", kind="n" * 255)
    yield item("unknown type, noise", random.randbytes(3000), "parked", kind="nobody")
    yield item("a dunder", GOOD_ITEM, "parked", kind="__class__")
    yield item("no arguments for two", b"{}", kind="work")
    yield item("one too many", b'{"number": 1, "seconds": 0, "more": 1}', kind="work")
    yield item("another self", b'{"number": 1, "ctx": 1}', kind="work")
    for number, raised in enumerate((b"\xff\xfe", b"\xed\xa0\x80", b"\0\x1b[2J", b"x" * 100_000)):
        yield item(f"raises-{number}", json.dumps(raised.hex()).encode(), kind="fails")


DEATH: Final = table(
    ("count", b"l" + struct.pack(">q", 2**62)),
    ("reason", text("rejected")),
    ("queue", text("work")),
    ("exchange", text("")),
    ("routing-keys", b"A" + long(text("work"))),
)


def strange_headers() -> Iterator[tuple[str, bytes, tuple[Fate, ...]]]:
    """F18: headers, and what becomes of a message with them."""
    done: tuple[Fate, ...] = ("done",)
    dead: tuple[Fate, ...] = ("dead",)
    integer = b"I" + struct.pack(">i", 3)
    yield "attempt 3", table(("amqpjobs-attempt", integer)), done
    yield "attempt text", table(("amqpjobs-attempt", text("3"))), dead
    yield "attempt yes", table(("amqpjobs-attempt", b"t\1")), dead
    yield "attempt -1", table(("amqpjobs-attempt", b"I" + struct.pack(">i", -1))), dead
    yield "attempt 2^63-1", table(("amqpjobs-attempt", b"l" + struct.pack(">q", 2**63 - 1))), dead
    yield "attempt void", table(("amqpjobs-attempt", b"V")), done
    yield "attempt table", table(("amqpjobs-attempt", b"F" + long(DEATH))), dead
    yield "deadline text", table(("amqpjobs-deadline", text("soon"))), dead
    yield "deadline 1e308", table(("amqpjobs-deadline", b"d" + struct.pack(">d", 1e308))), dead
    yield "deadline -1", table(("amqpjobs-deadline", b"l" + struct.pack(">q", -1))), dead
    far = b"l" + struct.pack(">q", 2**63 - 1)
    yield "deadline far", table(("amqpjobs-deadline", far)), done
    yield "deadline past", table(("amqpjobs-deadline", integer)), ("dropped",)
    yield "error of its own", table(("amqpjobs-error", text("x"))), done
    yield "error table", table(("amqpjobs-error", b"F" + long(DEATH))), done
    yield "trace junk", table(("traceparent", text("00-" + "0" * 32))), done
    yield "trace number", table(("traceparent", integer), ("tracestate", integer)), done
    yield "trace bytes", table(("traceparent", b"x" + long(b"\xff\0\xfe"))), done
    yield "x-death forged", table(("x-death", b"A" + long(b"F" + long(DEATH)))), done
    yield "x-death text", table(("x-death", text("many"))), done
    yield "x-death array of text", table(("x-death", b"A" + long(text("a") + text("b")))), done
    yield "x-death number", table(("x-death", integer)), done
    yield "delivery count", table(("x-delivery-count", far)), done
    yield "many keys", table(*((f"key-{n}", integer) for n in range(3000))), done
    yield "4 KB value", table(("key", text("v" * 4096))), done
    # A key has a length octet: 4 KB of them are sixteen keys.
    yield "4 KB of keys", table(*((f"{n:02}" + "k" * 253, b"V") for n in range(16))), done
    yield "empty key", table(("", text("x"))), done
    yield "key twice", table(("a", text("x")), ("a", integer)), done
    yield "key of bad UTF-8", table((b"\xff\xfe", text("x"))), done
    yield "value of bad UTF-8", table(("a", text(b"\xff\xfe"))), done
    yield "every type", table(
        ("t", b"t\1"), ("b", b"b\xff"), ("s", b"s\xff\xff"), ("I", integer), ("l", far),
        ("f", b"f" + struct.pack(">f", 1e38)), ("d", b"d" + struct.pack(">d", 1e308)),
        ("D", b"D\xff" + struct.pack(">i", -1)), ("T", b"T" + struct.pack(">Q", 2**40)),
        ("x", b"x" + long(b"\0\xff")), ("V", b"V"), ("F", b"F" + long(b"")),
        ("A", b"A" + long(b"")),
    ), done  # fmt: skip
    yield "a time after all", table(("T", b"T" + struct.pack(">Q", 2**62))), done
    nested = b""
    for _ in range(100):
        nested = table(("n", b"F" + long(nested)))
    yield "100 tables deep", nested, done


def strange_properties(random: Random) -> Iterator[Hostile]:
    """F18."""
    number = 0

    def echo(name: str, *fate: Fate, **given: str | bytes | int) -> Hostile:
        nonlocal number
        number += 1
        identified: dict[str, str | bytes | int] = {"message_id": f"p-{number}", "type": "echo"}
        known = {k: v for k, v in {**identified, **given}.items() if v != ""}
        body = json.dumps({"name": name}).encode()
        return Hostile(name, "echo", body, properties(**known), fate or ("done",))

    for name, headers, fate in strange_headers():
        yield echo(name, *fate, headers=headers)
        yield echo(f"{name}, dead", *_if_dead(fate), headers=headers, content_type="text/plain")
    yield Hostile("nothing at all", "echo", b'"x"', properties(), ("done",))
    yield echo("no type", type="")
    yield echo("type of bad UTF-8", "dead", type=b"\xff\xfe")
    yield echo("id of bad UTF-8", "dead", message_id=b"\xff\xfe")
    yield echo("id of 255", message_id="i" * 255)
    yield echo("id with lines", message_id="a\nb\x1b[2J\0")
    yield echo("id like ours", message_id="01a20074-9639-7xxx-a56d-c60c4e9fc6d5")
    yield echo("priority 255", priority=255)
    yield echo("priority 0", priority=0)
    yield echo("timestamp 0", timestamp=0, message_id="t0")
    yield echo("timestamp 2^64-1", timestamp=2**64 - 1, message_id="t1")
    yield echo("reply to nowhere", reply_to="no.such.queue", correlation_id="c")
    yield echo("reply to itself", reply_to="echo", correlation_id="c" * 255)
    yield echo("user", user_id="guest")
    yield echo("user, dead", "dead", user_id="guest", content_type="text/plain")
    yield echo("cluster id", cluster_id="somewhere")
    yield echo("app", app_id="\0" * 255)
    yield echo("long expiration", expiration="100000000")
    yield echo("long expiration, dead", "dead", expiration="600000", content_type="text/plain")
    yield echo("xml", "dead", content_type="application/xml")
    yield echo("charset", content_type="application/json; charset=utf-8")
    yield echo("JSON IN CAPITALS", content_type="APPLICATION/JSON")
    yield echo("gzip", "dead", content_encoding="gzip")
    yield echo("content type of bad UTF-8", "dead", content_type=b"\xff")
    for size in (131072 - 8 - 12 - 60, 131072 - 8 - 12 - 300, 131072 - 8 - 12 - 1500):
        padding = table(("padding", text("p" * (size - 30))))
        yield echo(f"a frame of headers, {size}", headers=padding)
        yield echo(f"a frame of headers, {size}, dead", "dead", headers=padding, content_type="a/b")
    for round_ in range(10):
        noise = "".join(chr(random.randint(1, 0x7FF)) for _ in range(60))
        yield echo(f"noise {round_}", message_id=noise, correlation_id=noise, app_id=noise)


def refused(random: Random) -> Iterator[tuple[str, bytes]]:
    """Properties that RabbitMQ itself may refuse; if it takes them, we have to live with them."""
    yield "negative expiration", properties(type="echo", message_id="r-0", expiration="-1")
    yield "expiration in words", properties(type="echo", message_id="r-1", expiration="soon")
    yield "empty expiration", properties(type="echo", message_id="r-2", expiration=b"")
    yield "huge expiration", properties(type="echo", message_id="r-3", expiration="9" * 200)
    yield "somebody else", properties(type="echo", message_id="r-4", user_id="somebody")
    copies = b"A" + long(text("other.dead") + text("nowhere"))
    yield "CC", properties(type="echo", message_id="r-5", headers=table(("CC", copies)))
    yield "BCC", properties(type="echo", message_id="r-6", headers=table(("BCC", copies)))
    for value in (float("nan"), float("inf")):
        headers = table(("amqpjobs-deadline", b"d" + struct.pack(">d", value)))
        yield f"deadline {value}", properties(type="echo", message_id=f"r-{value}", headers=headers)
    junk = b"I" + struct.pack(">i", 1)
    yield "CC of a number", properties(type="echo", message_id="r-7", headers=table(("CC", junk)))
    yield "table cut short", properties(type="echo", message_id="r-8", headers=b"\xffabc")
    unknown = table(("a", b"?" + long(b"x")))
    yield "unknown tag", properties(type="echo", message_id="r-9", headers=unknown)
    for number in range(20):
        headers = random.randbytes(random.randint(1, 200))
        yield (
            f"noise for headers {number}",
            properties(type="echo", message_id=f"r-n{number}", headers=headers),
        )
    for mode in (0, 3, 255):
        given = properties(type="echo", message_id=f"r-mode-{mode}", delivery_mode=mode)
        yield f"delivery mode {mode}", given
    yield "flags without fields", b"\xff\xf8"
    yield "more flags follow", b"\0\1"


def _if_dead(fate: tuple[Fate, ...]) -> tuple[Fate, ...]:
    """What becomes of it when its content type is wrong as well."""
    return fate if fate != ("done",) else ("dead",)
