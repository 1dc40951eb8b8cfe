"""Topic exchanges: which patterns a routing key matches."""

import random
from typing import Final

from tests.conformance.client import Channel

TOPICS: Final = {
    "*": ["a"],
    "#": ["a", "", "a.b", "a.b.c", "a..c"],
    "a.*": ["a.b", "a."],
    "*.b": ["a.b", ".b"],
    "a.#": ["a", "a.b", "a.b.c", "a.", "a..c"],
    "#.c": ["c", "a.c", "a.b.c", "a..c"],
    "a.*.c": ["a.b.c", "a..c"],
    "a.#.c": ["a.c", "a.b.c", "a.b.b.c", "a..c"],
    "#.b.#": ["b", "a.b", "b.c", "a.b.c", "a.b.b.c", ".b"],
    "*.#": ["a", "a.b", "a.b.c"],
    "a.b": ["a.b"],
    "a*": ["a*"],
    "": [""],
}
"""By binding key: routing keys, among those of all rows, of which it must take these."""

WORDS: Final = ("a", "b", "long", "ü", "", "*", "#", "a*")
PATTERNS, KEYS = 45, 80


def test_topic(channel: Channel) -> None:
    """A topic exchange: `*` is one word, `#` any number of them; an empty key is no word"""
    keys = sorted({key for taken in TOPICS.values() for key in taken})
    found = taken_by(channel, list(TOPICS), keys)
    for pattern, taken in TOPICS.items():
        assert set(found[pattern]) >= set(taken), pattern
        assert found[pattern] == expected(pattern, keys)


def test_generated_topics(channel: Channel) -> None:
    """3,600 pairs of a generated pattern and a generated key match as a simple matcher says"""
    made = random.Random(43)
    patterns, keys = generated(made, PATTERNS), generated(made, KEYS)
    found = taken_by(channel, patterns, keys)
    assert found == {pattern: expected(pattern, keys) for pattern in patterns}
    assert sum(map(len, found.values())) > PATTERNS


def test_words_of_patterns_in_keys(channel: Channel) -> None:
    """In a routing key `*` and `#` are words like others, which only `*` and `#` match"""
    found = taken_by(channel, ["a.b", "a.*", "a.#", "*", "#"], ["a.*", "a.#", "*", "#"])
    assert found == {
        "a.b": [],
        "a.*": ["a.*", "a.#"],
        "a.#": ["a.*", "a.#"],
        "*": ["*", "#"],
        "#": ["a.*", "a.#", "*", "#"],
    }


def generated(made: random.Random, count: int) -> list[str]:
    """So many different texts of up to five words."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[".".join(made.choices(WORDS, k=made.randint(0, 5)))] = None
    return list(found)


def taken_by(channel: Channel, patterns: list[str], keys: list[str]) -> dict[str, list[str]]:
    """By pattern: the keys of which a message came, in the order in which they were published."""
    channel.exchange("x", "topic")
    queues = {}
    for pattern in patterns:
        queues[pattern] = channel.declare("", exclusive=True).queue
        channel.bind(queues[pattern], "x", pattern)
    for key in keys:
        channel.publish(key, key.encode(), "x")
    return {
        pattern: [body.decode() for body in channel.get_all(queue)]
        for pattern, queue in queues.items()
    }


def expected(pattern: str, keys: list[str]) -> list[str]:
    return [key for key in keys if matches(words(pattern), words(key))]


def words(text: str) -> list[str]:
    return text.split(".") if text else []


def matches(pattern: list[str], key: list[str]) -> bool:
    if not pattern:
        return not key
    if pattern[0] == "#":
        return any(matches(pattern[1:], key[n:]) for n in range(len(key) + 1))
    return bool(key) and pattern[0] in ("*", key[0]) and matches(pattern[1:], key[1:])
