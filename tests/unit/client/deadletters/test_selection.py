"""Which letters a selection means."""

import pytest

from amqpjobs.client.deadletters.letter import Place, letter_of
from amqpjobs.client.deadletters.selection import Choice, Selection, whole_ids
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.copies import copied
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.properties import Properties


def letter(id_="abc", time=100.0, **given):
    told = {"reason": "failed", "message": "no", "exception": "app.Broken", "time": time, **given}
    properties = copied(Properties(message_id=id_, type="mail"), Failure(**told))
    place = Place("dead", "work.dead", "work")
    return letter_of(place, frozenset(), properties, b"", "")


GROUP = letter().group


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), True),
        (Selection(("ab",)), True),
        (Selection(("x", "abc")), True),
        (Selection(("b",)), False),
        (Selection((GROUP,)), True),
        (Selection(("g-00000000",)), False),
        (Selection(job="mail"), True),
        (Selection(job="mai"), False),
        (Selection(reason="failed"), True),
        (Selection(reason="invalid"), False),
        (Selection(exception="Broken"), True),
        (Selection(exception="app.Broken"), True),
        (Selection(exception="p.Broken"), False),
        (Selection(since=100.0), True),
        (Selection(since=100.5), False),
        (Selection(until=100.0), False),
        (Selection(until=100.5), True),
        (Selection(queues=frozenset({"work"})), True),
        (Selection(queues=frozenset({"other"})), False),
        (Selection(("ab",), job="other"), False),
    ],
)
def test_all_conditions_must_be_true(selection, taken):
    """Of several ids and groups, one."""
    assert Choice(selection).takes(letter()) is taken


def test_a_letter_without_a_time_is_not_chosen_by_one():
    """Nobody knows whether it is older; without such a condition it is chosen."""
    assert not Choice(Selection(until=1e12)).takes(letter(time=None))
    assert Choice(Selection()).takes(letter(time=None))


def test_what_met_nothing_is_known():
    """For a message to whoever has mistyped it."""
    choice = Choice(Selection(("abc", "abd", GROUP)))
    assert choice.takes(letter())
    assert choice.missing == ("abd",)


def test_a_beginning_is_one_id_or_an_error():
    """An id that is there whole is itself, though it begins another."""
    letters = [letter("abc"), letter("abc"), letter("abcd"), letter("x1")]
    assert whole_ids(["abc", "x", "nothing"], letters) == {"x": "x1"}
    with pytest.raises(ConfigurationError, match="abc, abcd; give more"):
        whole_ids(["ab"], letters)
    exact = Choice(Selection(("abc",)), ids_are_whole=True)
    assert [exact.takes(one) for one in letters] == [True, True, False, False]


def test_everything_is_not_chosen_by_an_empty_word():
    """Every id begins with it."""
    with pytest.raises(ConfigurationError, match="not empty"):
        Selection(("",))
    assert not Selection().chooses
    assert not Selection(queues=frozenset({"work"})).chooses
    assert Selection(since=0.0).chooses
