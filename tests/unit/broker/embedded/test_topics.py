"""Topic patterns, held against a matcher that is too simple to be wrong."""

from hypothesis import given
from hypothesis import strategies as st

from amqpjobs.broker.embedded.model.topics import Topics

WORDS = st.sampled_from(["a", "b", "long", "", "*", "#"])
PATTERNS = st.lists(WORDS, max_size=5).map(".".join)
KEYS = st.lists(st.sampled_from(["a", "b", "long", "", "*", "#"]), max_size=5).map(".".join)


def matches(pattern: list[str], key: list[str]) -> bool:
    if not pattern:
        return not key
    first, *rest = pattern
    if first == "#":
        return any(matches(rest, key[start:]) for start in range(len(key) + 1))
    return bool(key) and first in ("*", key[0]) and matches(rest, key[1:])


def words(key: str) -> list[str]:
    return key.split(".") if key else []


@given(st.lists(PATTERNS, max_size=6), st.lists(KEYS, min_size=1, max_size=4))
def test_every_pattern_that_matches_leads_to_its_target_once(
    patterns: list[str], keys: list[str]
) -> None:
    """Also when a target is bound by several patterns that match."""
    topics: Topics[int] = Topics()
    for number, pattern in enumerate(patterns):
        topics.add(pattern, number % 3)
    for key in keys:
        wanted = {n % 3 for n, p in enumerate(patterns) if matches(words(p), words(key))}
        found = topics.match(key)
        assert sorted(found) == sorted(wanted)


@given(st.lists(PATTERNS, min_size=1, max_size=6), KEYS, st.data())
def test_what_is_removed_does_not_match_any_more(
    patterns: list[str], key: str, data: st.DataObject
) -> None:
    """A pattern that was added twice still matches when it is removed once."""
    topics: Topics[str] = Topics()
    for pattern in patterns:
        topics.add(pattern, pattern)
    removed = data.draw(st.lists(st.sampled_from(range(len(patterns))), unique=True))
    topics.match(key)  # what is remembered has to be forgotten
    for number in removed:
        topics.remove(patterns[number], patterns[number])
    kept = {p for n, p in enumerate(patterns) if n not in removed and matches(words(p), words(key))}
    assert set(topics.match(key)) == kept


def test_the_delay_ladder_s_patterns() -> None:
    """The first bit decides; the destination is matched at the end, whatever stands before it."""
    topics: Topics[str] = Topics()
    topics.add("1.#", "waits")
    topics.add("0.#", "passes")
    topics.add("#.thumbnails", "delivers")
    assert set(topics.match("1.0.1.thumbnails")) == {"waits", "delivers"}
    assert set(topics.match("0.0.1.thumbnails.high")) == {"passes"}


def test_strangers_cannot_fill_the_memory_with_routing_keys() -> None:
    """What is remembered of keys has an end, and everything still matches behind it."""
    topics: Topics[int] = Topics()
    topics.add("#", 1)
    assert all(topics.match(f"key.{number}") == (1,) for number in range(10_000))
    assert len(topics._known) <= 4096
