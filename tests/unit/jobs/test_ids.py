"""Ids that follow from something: the same in every release, or old duplicates are new jobs."""

from amqpjobs.jobs.message.ids import derived_id, keyed_id


def test_the_same_key_is_the_same_job() -> None:
    """Of one app and one job; pinned, since keys of yesterday must be known tomorrow."""
    one = keyed_id("shop", "send_receipt", "order-7")
    assert one == "44fd6cd3-b6d6-5b46-80d6-d78f1b028539"
    others = {
        keyed_id("shop", "send_receipt", "order-8"),
        keyed_id("shop", "send_reminder", "order-7"),
        keyed_id("shops", "end_receipt", "order-7"),
    }
    assert len({one, *others}) == 4


def test_parts_are_not_run_together() -> None:
    """What is one part in one id is none of another's."""
    assert derived_id("a", "bc") != derived_id("ab", "c")
