"""Which letters are of one group, and where a letter goes back to."""

from datetime import UTC, datetime

import pytest

from amqpjobs.client.deadletters.letter import Grouping, Place, group_of, is_group, letter_of
from amqpjobs.jobs.message.copies import copied
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.properties import Properties

LANES = frozenset({"work", "work.high"})
DEAD = Place("dead", "work.dead", "work")


def failure(**given):
    told = {"reason": "failed", "message": "no", "exception": "ValueError"}
    return Failure(**{**told, "frames": ("/srv/app/jobs.py:10 run",), **given})


def letter(place=DEAD, failure=None, key="work.dead", **properties):
    given = Properties(**properties)
    return letter_of(place, LANES, given if failure is None else copied(given, failure), b"1", key)


@pytest.mark.parametrize(
    "other",
    [
        failure(message="another one"),
        failure(frames=("/srv/app/jobs.py:99 run",)),
        failure(frames=("/srv/releases/2/app/jobs.py:10 run",)),
        failure(job="another", queue="another", attempt=7, time=1.0),
    ],
)
def test_the_same_failure_is_the_same_group(other):
    """What it says, where the line moved to, which release and which job: all the same."""
    assert group_of(other, "b") == group_of(failure(), "a")


@pytest.mark.parametrize(
    "other",
    [
        failure(exception="KeyError"),
        failure(frames=("/srv/app/jobs.py:10 walk",)),
        failure(frames=("/srv/app/mails.py:10 run",)),
        failure(frames=("/srv/app/jobs.py:10 run", "/srv/app/jobs.py:2 outer")),
        failure(exception=None),
        None,
    ],
)
def test_another_failure_is_another_group(other):
    """Exception, function, module, and who called."""
    assert group_of(other, "a") != group_of(failure(), "a")


def test_only_the_innermost_frames_make_a_group():
    """Who called from far outside is no difference."""
    inner = tuple(f"/app/a.py:{n} f{n}" for n in range(3))
    one, two = failure(frames=(*inner, "/app/x.py:1 x")), failure(frames=(*inner, "/app/y.py:1 y"))
    assert group_of(one, None) == group_of(two, None)


def test_without_an_exception_reason_and_job_are_the_group():
    """What it says may name the parameter that was wrong, or anything."""
    one = failure(exception=None, reason="invalid", message="a")
    assert group_of(one, "x") == group_of(failure(exception=None, reason="invalid"), "x")
    assert group_of(one, "x") != group_of(one, "y")
    assert group_of(one, "x") != group_of(failure(exception=None, reason="rejected"), "x")
    assert is_group(group_of(one, "x"))
    assert not is_group("0195e4a2")


@pytest.mark.parametrize(
    ("queue", "target"), [("work.high", "work.high"), ("other", "work"), (None, "work")]
)
def test_a_letter_goes_back_to_where_it_came_from(queue, target):
    """If that is one of the app's queues: strangers write headers, too."""
    assert letter(failure=failure(queue=queue)).target == target


def test_an_unroutable_one_goes_to_its_destination():
    """Its routing key is the delay in bits, and then the queue."""
    key = ".".join("01" * 14) + ".work.high"
    found = letter(Place("unroutable", "amqpjobs.delay.unroutable"), key=key)
    assert (found.queue, found.target) == ("work.high", "work.high")
    assert found.failure is not None
    assert found.failure.reason == "unroutable"


def test_what_the_broker_put_there_has_the_brokers_time():
    """RabbitMQ says when in `x-death`; nonsense there is no time."""
    time = datetime(2026, 1, 1, tzinfo=UTC)
    death = {"reason": "delivery_limit", "queue": "work", "time": time}
    assert letter(headers={"x-death": [death]}).time == time.timestamp()
    assert letter(headers={"x-death": [{"time": "soon"}]}).time is None
    assert letter(headers={"x-death": "x"}).time is None
    assert letter().time is None


def test_groups_are_counted():
    """The largest first; the youngest is the example."""
    grouping = Grouping()
    for time in (3.0, 1.0, None, 5.0, 4.0):
        grouping.add(letter(failure=failure(time=time), message_id=f"{time}", type="a"))
    grouping.add(letter(message_id="odd"))
    first, second = grouping.groups()
    assert (first.count, first.first, first.last, first.example.id) == (5, 1.0, 5.0, "5.0")
    assert (first.queues, first.jobs) == (("work",), ("a",))
    assert (second.count, second.first, second.example.id) == (1, None, "odd")
