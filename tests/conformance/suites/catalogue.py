"""The test suites of other clients: where they come from, what of them is run, and what differs.

Changes with a release of a client.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

TOOLS: Final = Path(__file__).parent / "requirements.txt"
"""What the suites need beside what is in the virtual environment, with hashes."""


@dataclass(frozen=True, slots=True)
class Suite:
    """One client's suite.

    Attributes:
        name: of the client on PyPI.
        version: of its source distribution.
        sha256: of that.
        tests: how many of them are run; those that the suite itself skips among them.
        paths: the files or folders of tests that are run.
        plugins: pytest's plugins that they need.
        options: further options of pytest, such as those that leave tests out.
        left_out: what is not run, and why.
        fails: tests that fail, and why: by the broker (``4.3``: RabbitMQ 4.3 and the embedded
            broker as 4.3 alike; ``embedded-4.3``: that one alone), the beginning of each test's id
            with the reason. A test of them that passes is a failure.
        unstable: tests whose outcome depends on the machine's load; it does not count.
    """

    name: str
    version: str
    sha256: str
    tests: int
    paths: tuple[str, ...]
    plugins: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    fails: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unstable: Mapping[str, str] = field(default_factory=dict)

    def expected(self, place: str, version: str) -> dict[str, str]:
        """What fails on that broker, with the reasons."""
        found: dict[str, str] = {}
        for broker in (version, f"{place}-{version}"):
            found |= self.fails.get(broker, {})
        return found


_TOO_LARGE = "16 MiB and more: since 4.0 RabbitMQ takes no larger message unless it is configured"
_TLS = "TLS: the embedded broker listens on loopback, without it"

SUITES: Final = {
    suite.name: suite
    for suite in (
        Suite(
            "amqp",
            "5.4.2",
            "9362660c4a31150cf18e78cae2ce8aa1e929fc6c6739e69f6dd5dbea9c3edc82",
            48,
            ("t/integration",),
            options=("-k", "not tls"),
            left_out={"`[tls]`": _TLS},
        ),
        Suite(
            "kombu",
            "5.7.0",
            "31e62fdfd2381caa3422f8e02b84a491d9a2180ddda74507b57f4cb1e1c2c2c9",
            51,
            ("t/integration/test_py_amqp.py",),
        ),
        Suite(
            "aio-pika",
            "10.2.1",
            "e4f77afd9179a3cca5a904c3b0a1190256a36d9f90650db908b1b2245eb27487",
            268,
            (
                "tests/test_amqp.py",
                "tests/test_close_notification.py",
                "tests/test_connect.py",
                "tests/test_connection_close_state.py",
                "tests/test_consumer_cancel_recovery.py",
                "tests/test_consumer_publish_errors.py",
                "tests/test_json_rpc.py",
                "tests/test_master.py",
                "tests/test_nowait.py",
                "tests/test_queue_iterator_close.py",
                "tests/test_reconnect_channel_snapshot.py",
                "tests/test_robust_binding_identity.py",
                "tests/test_robust_shutdown.py",
                "tests/test_rpc.py",
                "tests/test_rpc_factory.py",
            ),
            plugins=("aiomisc_pytest", "given_broker"),
            options=("-o", "log_cli=false", "-k", "not connect_robust"),
            left_out={
                "`[connect_robust]`": "the same tests with another kind of connection",
                "`test_amqps.py`": _TLS,
                "`test_amqp_robust.py`": "`test_amqp.py` again, with other connections",
                "`test_amqp_robust_proxy.py`": "minutes of waiting for connections that are cut",
                "`test_robust_recovery.py`": "stops and kills its own RabbitMQ in Docker",
                "8 other files": "no broker: messages, options, pools, types, memory",
            },
            fails={
                "4.3": {
                    "tests.test_amqp.TestCaseAmqp::test_big_message": _TOO_LARGE,
                    "tests.test_amqp.TestCaseAmqpNoConfirms::test_big_message": _TOO_LARGE,
                }
            },
        ),
        Suite(
            "aiormq",
            "7.2.4",
            "5fd20bb9583d73de85572198496b65cf028f27527c1733c9840d458e0b40e8fa",
            261,
            ("tests",),
            plugins=("aiomisc_pytest", "given_broker"),
            options=(
                *("-k", "not amqps and not named and not ssl and not heartbeat and not stuck"),
                "--ignore=tests/test_future_store.py",
                "--ignore=tests/test_tools.py",
                "--deselect=tests/test_connection.py::test_parse_bool",
                "--deselect=tests/test_connection.py::test_parse_int",
                "--deselect=tests/test_connection.py::test_parse_timeout",
            ),
            left_out={
                "`[amqps]`, `[amqps-client]`, `ssl`": _TLS,
                "`[amqp-named]`": "the same tests with a name of the connection",
                "`heartbeat`, `stuck`": "seconds of silence each",
                "`test_future_store.py`, `test_tools.py`, `test_parse_...`": "no broker",
            },
            fails={
                "4.3": {
                    "tests.test_channel::test_big_message[amqp_channel0": _TOO_LARGE,
                    "tests.test_channel::test_big_message[amqp_channel1": _TOO_LARGE,
                }
            },
        ),
        Suite(
            "amqpstorm",
            "3.1.4",
            "8c4c81430b3e3f06c88474a8ed883b48a62068f14490e339d6e0fc3329f030d3",
            67,
            ("amqpstorm/tests/functional",),
            plugins=("given_broker",),
            options=(
                "--ignore=amqpstorm/tests/functional/management",
                "--ignore=amqpstorm/tests/functional/ssl",
                "--ignore=amqpstorm/tests/functional/test_web_based.py",
                *("-k", "not Select and not Poll"),
            ),
            left_out={
                "`management`, `test_web_based.py`": "RabbitMQ's management API",
                "`ssl`": _TLS,
                "`...Select`, `...Poll`": "the same tests with other ways to wait for a socket",
            },
        ),
    )
}
