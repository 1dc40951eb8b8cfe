"""What a delivery knows of its past: whether a worker may have died of it, and whose it is."""

import pytest

from tests.unit.worker.hand import BROKEN_TABLE, Hand

OLD, NEW = (4, 2, 9), (4, 3, 0)


@pytest.mark.parametrize(
    ("version", "count", "limit", "suspect"),
    [
        (NEW, None, 20, False),  # given back, which is free
        (NEW, 1, 20, True),
        (OLD, 1, 20, False),
        (OLD, 2, 20, False),  # two deploys
        (OLD, 3, 20, True),
        (OLD, 1, 1, True),  # the next time RabbitMQ itself would put it into the dead letters
        (OLD, None, None, True),  # a classic queue counts nothing
        (NEW, None, None, True),
        (NEW, 0, None, True),  # nor is a stranger believed there, who wrote the header
        (NEW, "many", 20, False),
    ],
)
async def test_what_came_back_too_often_is_suspect(version, count, limit, suspect):
    """By RabbitMQ's count of sudden deaths; where that has deploys in it, from a higher one."""
    headers = {} if count is None else {"x-delivery-count": count}
    async with Hand(version=version) as hand:
        assert hand.give(headers=headers, redelivered=True).is_suspect(limit) is suspect
        assert hand.give(headers=headers).is_suspect(limit) is False


async def test_headers_that_cannot_be_read_are_no_reason_for_suspicion():
    """They are settled before anything of the job runs."""
    async with Hand() as hand:
        assert not hand.give(header=BROKEN_TABLE, redelivered=True).is_suspect(20)


async def test_what_was_taken_back_is_stale_and_its_ack_is_written_all_the_same():
    """RabbitMQ ignores it; without it the acks behind could never be taken together again."""
    async with Hand() as hand:
        first, second = hand.give(), hand.give()
        first.lose()
        assert first.stale
        assert not second.stale
        first.ack()
        second.ack()
        assert await hand.settlements() == ["ack 2"]
