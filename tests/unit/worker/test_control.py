"""What a worker does when it is told that an asker does not wait any more."""

import asyncio
import time

import pytest

from amqpjobs import Queue
from amqpjobs.broker.amqp.frames import encode_properties, split_header
from amqpjobs.jobs.message.header_names import HEADER_DEADLINE
from amqpjobs.jobs.message.properties import CANCEL, Properties
from amqpjobs.worker import cancellation as control_module
from amqpjobs.worker.cancellation import Control
from amqpjobs.worker.run import Run
from tests.unit.broker.rabbitmq.fake_wire import Link
from tests.unit.worker.hand import Hand

ASKED = {"message_id": "id", "correlation_id": "c", "reply_to": "asker"}


def word(**changes):
    """What the asker says."""
    properties = Properties(**{"type": CANCEL, **ASKED, **changes})
    return split_header(b"\0\x3c\0\0" + bytes(8) + encode_properties(properties))


@pytest.fixture
async def hand():
    async with Hand() as made:
        yield made


async def test_what_runs_is_cancelled(hand):
    """By the one who asked, and once it has begun."""
    running = {}
    control = Control(Link(), [Queue("queue")], running)
    run = Run(hand.give(**ASKED))
    task = running[run] = asyncio.create_task(asyncio.sleep(60))
    for changes in ({"message_id": "x"}, {"correlation_id": "x"}, {"reply_to": "x"}, {"type": "x"}):
        control._told(word(**changes), b"")
    control._told(word(), b"")  # not begun: a task that is cancelled now would never run
    assert (task.cancelling(), run.cancelled) == (0, False)
    assert control.takes_back(run)
    run.asked = "asker"
    control._told(word(), b"")
    assert (task.cancelling(), run.cancelled) == (1, True)
    assert not control.takes_back(run)
    await asyncio.wait([task])


async def test_what_comes_later_is_remembered_until_its_deadline(hand, monkeypatch):
    """Once, and not too many of them."""
    monkeypatch.setattr(control_module, "REMEMBERED", 2)
    control = Control(Link(), [Queue("queue")], {})
    late = round((time.time() - 1) * 1000)
    control._told(word(headers={HEADER_DEADLINE: late}), b"")
    assert not control.takes_back(Run(hand.give(**ASKED)))
    for number in range(3):
        control._told(word(message_id=str(number)), b"")
    assert repr(control) == "<Control: 2 requests were taken back>"
    found = [
        control.takes_back(Run(hand.give(**{**ASKED, "message_id": str(n)}))) for n in range(3)
    ]
    assert found == [False, True, True]
    assert repr(control) == "<Control: 0 requests were taken back>"


@pytest.mark.parametrize("missing", ASKED)
async def test_a_word_with_half_of_what_only_the_asker_knows_is_nothing(missing):
    """Not remembered either."""
    control = Control(Link(), [Queue("queue")], {})
    control._told(word(**{missing: None}), b"")
    assert "0 requests" in repr(control)
