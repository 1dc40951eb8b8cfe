"""What the commands on dead letters make of what they are told, and of bodies."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs import App
from amqpjobs.cli.dead.options import bench_of, require_choice, selection_of
from amqpjobs.cli.dead.rows import compact, pretty
from amqpjobs.cli.output import moment
from amqpjobs.errors import ConfigurationError
from amqpjobs.telemetry.safe_text import printable

NOTHING = (None, None, None, None, None, None)

documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(documents, st.booleans())
def test_pretty_and_compact_change_white_space_only(document, ascii_only):
    """What comes back is what it was, byte by byte."""
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=ascii_only).encode(
        errors="replace"
    )
    text = pretty(body)
    assert text is not None
    assert compact(text) == body


def test_pretty_is_what_python_prints():
    """Two spaces a level; empty ones on one line."""
    document = {"a": [1, {"b": []}, {}], "c": '[x, {y}: "z"]'}
    assert pretty(json.dumps(document).encode()) == json.dumps(document, indent=2)


def test_pretty_rounds_no_number_and_keeps_what_is_there_twice():
    """It is somebody's data, and not ours to tidy up."""
    text = pretty(b'{"a":1.10,"a":1E+2,"b":0.1234567890123456789}')
    assert text == '{\n  "a": 1.10,\n  "a": 1E+2,\n  "b": 0.1234567890123456789\n}'


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_not_pretty(body):
    """Strangers write bodies."""
    assert pretty(body) is None


@pytest.mark.parametrize(
    ("text", "ago"), [("30m", 1800), ("2h", 7200), ("1.5d", 129600), ("2h ago", 7200), ("0s", 0)]
)
def test_times_may_be_how_long_ago(text, ago):
    """As people say it."""
    since = selection_of(None, None, None, None, text, None).since
    assert since == pytest.approx(time.time() - ago, abs=5)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86400), ("1970-01-01T01:00", 3600), ("1970-01-01T01:00+01:00", 0),
        ("1970-01-01T00:00:10Z", 10),
    ],
)  # fmt: skip
def test_times_are_utc_unless_they_say_otherwise(text, seconds):
    """As the lists print them."""
    assert selection_of(None, None, None, None, None, text).until == seconds


def test_a_time_that_is_none_says_how_to_write_one():
    """And which option it was."""
    with pytest.raises(ConfigurationError, match="--since 'soon'.*2h"):
        selection_of(None, None, None, None, "soon", None)


def test_all_is_said_and_never_meant_by_saying_nothing():
    """Nor together with a condition, which it would undo."""
    with pytest.raises(ConfigurationError, match="--all"):
        require_choice(selection_of(*NOTHING), everything=False)
    with pytest.raises(ConfigurationError, match="not both"):
        require_choice(selection_of(["x"], *NOTHING[1:]), everything=True)
    require_choice(selection_of(*NOTHING), everything=True)
    require_choice(selection_of(["x"], *NOTHING[1:]), everything=False)


def test_one_kind_at_a_time():
    """They are in other queues."""
    with pytest.raises(ConfigurationError, match="one at a time"):
        bench_of(App("a"), None, parked=True, unroutable=True)


def test_nothing_printed_acts_on_the_terminal():
    """Escapes are shown; letters of all scripts, and line breaks, are themselves."""
    assert printable("\x1b[2J ü 漢\n\t\x9b\x07") == "\\x1b[2J ü 漢\n\t\\x9b\\x07"


@pytest.mark.parametrize("seconds", [1e30, -1e30, 2.0**63])
def test_a_time_that_no_calendar_has_is_a_number(seconds):
    """Strangers write headers."""
    assert "since the epoch" in moment(seconds)
