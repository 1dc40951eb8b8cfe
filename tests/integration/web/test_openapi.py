"""The API keeps what its OpenAPI document promises, whatever is sent: schemathesis makes it up."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conftest import _server
from tests.support.brokers.broker_server import VirtualHost, virtual_host
from tests.support.brokers.brokers import Brokers
from tests.support.programs import consuming, environment
from tests.support.web import serving

TOKEN = "correct-horse-battery-staple"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    ignored_auth,
)
"""All that make sense here. Not among them: that every body which does not fit its schema is
refused, since pydantic takes "7" for a whole number as a worker does; and that every one which
fits is taken, since no queue has the priorities that are made up."""

BOUNDED = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)

EXPECTED = {"job-failed", "reply-timeout", "stopping"}
"""Reasons of answers from 500 on that are no error of the server: a job may fail."""


@pytest.fixture(scope="module")
def url(
    request: pytest.FixtureRequest, brokers: Brokers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A web tier with a token, a worker beside it, and a real broker."""
    with virtual_host(_server(request, brokers, "4.3")) as vhost:
        yield from _served(vhost, tmp_path_factory.mktemp("openapi"))


def _served(vhost: VirtualHost, folder: Path) -> Iterator[str]:
    env = environment(
        vhost.url,
        folder,
        AMQPJOBS_APP="tests.integration.web.described:app",
        AMQPJOBS_WEB_TOKEN=TOKEN,
        AMQPJOBS_REQUEST_TIMEOUT="5",
        AMQPJOBS_HOOK_ORDERS_SECRET="a secret of some length",
    )
    with consuming(env=env), serving(env=env) as (program, address):
        yield address
        assert not [line for line in program.lines if line["level"] in ("error", "critical")]


@pytest.mark.timeout(240)
def test_the_api_does_as_it_is_described(url: str) -> None:
    """Statuses, content types, bodies, and that the token is asked for: of every operation."""
    document = httpx.get(f"{url}/jobs/openapi.json", headers=AUTHORIZED).json()
    schema = schemathesis.openapi.from_dict(document)
    tried = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        tried.add(operation.label)
        # By hand, since the plugin's own way makes a test of each operation while it collects:
        # by then there is no server to ask for the document.
        given(case=operation.as_strategy())(BOUNDED(lambda case: _try(case, url)))()
    assert {"POST /jobs/order", "POST /jobs/pet/request", "GET /jobs/{id}/events"} <= tried
    assert len(tried) >= 14


def _try(case: Case, url: str) -> None:
    case.headers = {**(case.headers or {}), **AUTHORIZED}
    query = case.query or {}
    if case.operation.path.endswith("/request") and _is_number(query.get("timeout")):
        # What is made up may be minutes, and nobody works on the queue with priorities for ever.
        query["timeout"] = min(query["timeout"], 1)
    response = case.call(base_url=url, timeout=15)
    checks = list(CHECKS)
    if response.status_code >= 500 and response.json().get("reason") in EXPECTED:
        checks.remove(not_a_server_error)
    case.validate_response(response, checks=checks)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
