"""What waits for replies, the broker played by the test: every request ends, and is forgotten."""

import asyncio

import pytest
from pamqp import commands

from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.client.question import Question
from amqpjobs.client.replies import Replies
from amqpjobs.errors import ConfigurationError, PublishRejected, ReplyLost, ReplyTimeout, Unroutable
from amqpjobs.jobs.message.header_names import HEADER_DEADLINE
from amqpjobs.jobs.message.properties import CANCEL, Properties
from tests.unit.broker.rabbitmq.fake_wire import turns
from tests.unit.broker.rabbitmq.test_listening import OwnChannel, OwnLink


async def _nothing(wire):
    """The queues are there."""


class Desk:
    """Replies on a link whose lives the test begins and ends."""

    def __init__(self):
        self.link = OwnLink()
        self.publication = Publication(self.link, _nothing)
        self.replies = Replies(self.link, self.publication)
        self.task = asyncio.create_task(self.publication.run())

    @property
    def wire(self):
        return self.link.wire

    async def connect(self):
        self.link.connect()
        await turns()

    def asking(self, timeout=30.0, body=b"1", of_job=True):
        """A request on its way; the task ends with its reply."""

        async def ask():
            reply_to = await self.replies.ready("job", timeout, timeout)
            properties = Properties(
                message_id="id",
                correlation_id=self.replies.new_correlation_id(),
                reply_to=reply_to,
                headers={HEADER_DEADLINE: 7},
            )
            question = Question("job", timeout, "queue", properties, of_job=of_job)
            self.replies.ask(question, body, timeout)
            return (await self.replies.answer(question)).body

        return asyncio.create_task(ask())

    def published(self):
        return self.wire.published()

    def reply(self, correlation_id, body, **properties):
        number = next(c.number for c in self.wire.channels if "consume" in c.calls)
        properties = Properties(correlation_id=correlation_id, **properties)
        self.wire.deliver(1, properties, body, channel=number)


@pytest.fixture
async def desk():
    made = Desk()
    yield made
    await made.replies.close()
    made.task.cancel()
    await asyncio.wait([made.task])


async def test_each_request_gets_the_reply_with_its_correlation_id(desk):
    """In whatever order they come; the ids are never the same."""
    await desk.connect()
    asking = [desk.asking(body=str(n).encode()) for n in range(3)]
    await turns()
    sent = desk.published()
    assert len({m.properties.correlation_id for m in sent}) == 3
    assert {m.properties.reply_to for m in sent} == {desk.replies.queue}
    assert repr(desk.replies) == "<Replies: 3 pending, 0 unknown>"
    for message in reversed(sent):
        desk.reply(message.properties.correlation_id, b"answer to " + message.body)
    assert [await a for a in asking] == [b"answer to 0", b"answer to 1", b"answer to 2"]
    assert desk.replies.pending == 0


async def test_a_second_reply_is_nobodys(desk):
    """As is one without an id, or with one that was never given."""
    await desk.connect()
    asking = desk.asking()
    await turns()
    [message] = desk.published()
    for body in (b"first", b"second"):
        desk.reply(message.properties.correlation_id, body)
    assert await asking == b"first"
    desk.reply(message.properties.correlation_id, b"third")
    desk.reply(None, b"")
    desk.reply("made up", b"")
    assert desk.replies.unknown == 4


async def test_what_became_of_the_message_may_be_the_end(desk):
    """No such queue, or refused: at once. A confirm says nothing."""
    await desk.connect()
    returned, refused, confirmed = (desk.asking(body=b) for b in (b"1", b"2", b"3"))
    await turns()
    sent = desk.published()
    desk.wire.give_back(sent[0])
    for message, acked in zip(sent, (True, False, True), strict=True):
        desk.wire.say(
            (commands.Basic.Ack if acked else commands.Basic.Nack)(delivery_tag=message.number),
            message.channel,
        )
    with pytest.raises(Unroutable):
        await returned
    with pytest.raises(PublishRejected):
        await refused
    await turns()
    assert not confirmed.done()
    desk.reply(sent[2].properties.correlation_id, b"there")
    assert await confirmed == b"there"
    assert desk.replies.pending == 0


async def test_a_request_that_cannot_leave_ends_in_time_and_says_why(desk):
    """No connection, or an alarm: it was not sent, and does not leave afterwards."""
    with pytest.raises(ReplyTimeout, match="was not asked.*no connection") as caught:
        await desk.asking(timeout=0.01)
    assert caught.value.sent is False
    await desk.connect()
    await desk.replies.ready("job", 1, 1)
    desk.wire.protocol.blocked("low on memory")
    with pytest.raises(ReplyTimeout, match="it was not sent.*low on memory") as caught:
        await desk.asking(timeout=0.01)
    assert caught.value.sent is False
    desk.wire.protocol.unblocked()
    await turns()
    assert desk.published() == []


async def test_a_timeout_after_sending_says_so(desk):
    """Confirmed or not."""
    await desk.connect()
    with pytest.raises(ReplyTimeout, match="may have arrived") as caught:
        await desk.asking(timeout=0.01)
    assert caught.value.sent is True
    assert desk.replies.pending == 0


async def test_with_the_connection_every_request_ends_and_is_not_sent_again(desk):
    """It names a reply queue that is gone."""
    await desk.connect()
    asking = desk.asking()
    await turns()
    first = desk.replies.queue
    desk.link.lose()
    await turns()
    with pytest.raises(ReplyLost, match="gone") as caught:
        await asking
    assert caught.value.sent is True
    await desk.connect()
    assert desk.published() == []
    again = desk.asking()
    await turns()
    [message] = desk.published()
    assert message.properties.reply_to == desk.replies.queue != first
    desk.reply(message.properties.correlation_id, b"1")
    assert await again == b"1"


async def test_what_was_answered_before_its_confirm_is_not_sent_again(desk):
    """The connection goes between the two."""
    await desk.connect()
    asking = desk.asking()
    await turns()
    desk.reply(desk.published()[0].properties.correlation_id, b"1")
    assert await asking == b"1"
    desk.link.lose()
    await turns()
    await desk.connect()
    assert desk.published() == []


async def test_a_cancelled_caller_tells_the_workers(desk):
    """With all that only the asker knows, on a channel of its own; nobody waits for it."""
    await desk.connect()
    asking = desk.asking()
    await turns()
    [request] = desk.published()
    asking.cancel()
    await turns()
    assert desk.replies.pending == 0
    [_, word] = desk.published()
    assert (word.exchange, word.routing_key) == ("amqpjobs.control", "queue")
    assert (word.mandatory, word.channel != request.channel) == (False, True)
    said, asked = word.properties, request.properties
    assert said.type == CANCEL
    assert said.message_id == "id"
    assert (said.correlation_id, said.reply_to) == (asked.correlation_id, asked.reply_to)
    assert (said.headers, said.delivery_mode) == ({HEADER_DEADLINE: 7}, 1)


async def test_nobody_is_told_of_what_was_not_sent_or_is_not_ours(desk):
    """A service that is not ours does not know the word; and an alarm must not be written into."""
    await desk.connect()
    foreign = desk.asking(of_job=False)
    await turns()
    foreign.cancel()
    desk.wire.protocol.blocked("low on disk")
    waiting = desk.asking()
    await turns()
    waiting.cancel()
    await turns()
    desk.wire.protocol.unblocked()
    await turns()
    assert len(desk.published()) == 1


async def test_closing_ends_what_waits(desk):
    """And what is asked from then on."""
    await desk.connect()
    asking = desk.asking()
    await turns()
    await desk.replies.close()
    with pytest.raises(ReplyLost, match="closed here"):
        await asking
    with pytest.raises(ReplyLost, match="closed here"):
        await desk.asking()


async def test_a_refused_reply_queue_is_tried_again_by_the_next_request(desk, monkeypatch):
    """Somebody may have given the permission meanwhile."""
    from aiormq import exceptions as aiormq_errors

    async def refuse(self, **_):
        raise aiormq_errors.ChannelAccessRefused(403, "no")

    with monkeypatch.context() as patch:
        patch.setattr(OwnChannel, "queue_declare", refuse)
        await desk.connect()
        with pytest.raises(ConfigurationError, match="permissions"):
            await desk.asking()
    asking = desk.asking()
    await turns()
    desk.reply(desk.published()[0].properties.correlation_id, b"1")
    assert await asking == b"1"


async def test_nobody_can_guess_a_correlation_id():
    """A service that was asked knows one of them, and could answer another request."""
    desk = Desk()
    ids = [desk.replies.new_correlation_id() for _ in range(200)]
    assert all(len(each) >= 22 for each in ids)
    # What two random ids have in common by chance: never a beginning of some length.
    assert len({each[:16] for each in ids}) == 200
    desk.task.cancel()
