"""An SDK of the test, and a broker: RabbitMQ 3.10 and 4.3, and the embedded one."""

from collections.abc import Iterator
from typing import Any

import pytest

from amqpjobs.broker.embedded import Broker
from tests.conftest import BROKER_TEST_TIMEOUT, CHOSEN, GIVEN_URL, _server
from tests.support.brokers.broker_server import virtual_host
from tests.support.brokers.brokers import Brokers
from tests.support.tracing import Spans, traced

REAL = ["given"] if GIVEN_URL else list(CHOSEN)
EMBEDDED = "embedded"


def _param(place: str) -> Any:
    real = [pytest.mark.broker, pytest.mark.timeout(BROKER_TEST_TIMEOUT)]
    return pytest.param(place, id=place, marks=[] if place == EMBEDDED else real)


@pytest.fixture(params=[_param(place) for place in (EMBEDDED, *REAL)])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a broker with nothing on it, each in turn."""
    if request.param == EMBEDDED:
        with Broker.in_thread() as broker:
            yield broker.url
        return
    brokers: Brokers = request.getfixturevalue("brokers")
    with virtual_host(_server(request, brokers, request.param)) as vhost:
        yield vhost.url


@pytest.fixture
def embedded() -> Iterator[Broker]:
    """The embedded one, for what does not depend on the broker."""
    with Broker.in_thread() as broker:
        yield broker


@pytest.fixture
def spans() -> Iterator[Spans]:
    """An SDK that records everything."""
    with traced() as found:
        yield found
