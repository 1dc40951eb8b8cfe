"""A durable job that waits for a thousand others, on real servers."""

import pytest

from tests.benchmarks.joining import joined
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.postgres import Postgres

CHILDREN = 1000
LONGEST = 60.0
"""Seconds: five on an idle machine with two cores."""


@pytest.mark.timeout(180)
async def test_a_thousand_children_are_joined(broker_43: VirtualHost, postgres: Postgres) -> None:
    """By two worker processes, each child once."""
    [times] = await joined(broker_43.url, postgres.new_database(), CHILDREN)
    assert times["joined_s"] < LONGEST
