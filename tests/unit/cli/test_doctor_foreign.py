"""What the doctor says of queues that others declare."""

import pytest

from amqpjobs import Queue
from amqpjobs.cli.doctor.foreign import dead_lettering

THEIRS = Queue("theirs", foreign=True, failed="reject")


@pytest.mark.parametrize(
    ("row", "state"),
    [
        ({"arguments": {}}, ["error"]),
        ({"arguments": {"x-dead-letter-exchange": ""}}, []),
        ({"arguments": {}, "effective_policy_definition": {"dead-letter-exchange": "x"}}, []),
        ({"arguments": [], "effective_policy_definition": []}, ["error"]),
    ],
)
def test_a_queue_without_dead_lettering_loses_what_is_rejected(row, state) -> None:
    """By its arguments, or a policy; the API writes an empty object as a list."""
    rows = [{"name": "theirs", **row}]
    assert [check.state for check in dead_lettering([THEIRS], rows)] == state
    assert not list(dead_lettering([Queue("theirs", foreign=True), Queue("own")], rows))
    assert not list(dead_lettering([THEIRS], []))
