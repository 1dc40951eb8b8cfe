"""Finding a letter again that was seen before: to edit it, and to take it out."""

from amqpjobs.client.deadletters.letter import Place, letter_of
from amqpjobs.client.deadletters.traversal import Same
from amqpjobs.jobs.message.copies import copied
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.properties import Properties

DEAD = Place("dead", "work.dead", "work")


def letter(properties, body=b"1"):
    return letter_of(DEAD, frozenset({"work"}), properties, body, "work.dead")


def counted(properties, count):
    """As RabbitMQ hands it out again; 3.10 sorts headers then."""
    headers = {**properties.headers, "x-delivery-count": count}
    return properties._replace(headers=dict(sorted(headers.items())))


def test_a_letter_is_found_again_once():
    """Whatever RabbitMQ has counted since; a number that is none does not hide it."""
    headers = {"x": float("nan"), "a": 1}
    seen = copied(Properties(message_id="1", headers=headers), Failure("failed", "no"))
    same = Same(letter(seen))
    assert same.takes(letter(counted(seen, 3)))
    assert not same.takes(letter(seen))


def test_another_copy_is_another_letter():
    """The same message, dead-lettered twice: what is edited is the one that was looked at."""
    original = Properties(message_id="1")
    one, other = (copied(original, Failure("failed", "no")) for _ in range(2))
    assert not Same(letter(one)).takes(letter(other))
    assert not Same(letter(one)).takes(letter(one, b"2"))
