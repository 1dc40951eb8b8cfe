"""Settings to connection parameters, and failures to sentences that name the fix."""

import asyncio
import ssl

import pytest
from aiormq import exceptions as aiormq_errors
from pydantic import SecretStr

from amqpjobs.broker.rabbitmq import connection as connection_module
from amqpjobs.broker.rabbitmq.connect_errors import reason_of, refused, unreached
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.connection import _amqp_url as amqp_url
from amqpjobs.broker.rabbitmq.tls import ssl_context
from amqpjobs.errors import BrokerUnavailable, ConfigurationError
from amqpjobs.settings import Settings

URLS = ("AMQPJOBS_URL", "AMQP_URL", "RABBITMQ_URL", "CLOUDAMQP_URL")


def url(given, **settings):
    return amqp_url(Settings(url=given, **settings), "publish")


@pytest.mark.parametrize(
    ("given", "user", "password", "host", "port", "path"),
    [
        ("amqp://u:p@host:5673/vhost", "u", "p", "host", 5673, "/vhost"),
        ("amqp://host", None, None, "host", 5672, "/"),
        ("amqps://host/", None, None, "host", 5671, "/"),
        ("amqp://u:p%40s%2F@host/%2f", "u", "p@s/", "host", 5672, "//"),
        ("amqp://u:p@[::1]:5672/", "u", "p", "::1", 5672, "/"),
    ],
)
def test_a_url_says_where_and_who(given, user, password, host, port, path):
    """Its parts, unquoted, with the port of its scheme."""
    made = url(given)
    assert (made.user, made.password, made.host, made.port) == (user, password, host, port)
    assert made.path == path


def test_the_heartbeat_and_a_name_for_people_go_along():
    """So that the broker's list of connections says whose it is."""
    made = url("amqp://host/", heartbeat=20)
    assert made.query["heartbeat"] == "20"
    assert made.query["name"].startswith("amqpjobs publish ")


def test_what_the_url_asks_for_by_itself_is_ours_to_say():
    """One place for each setting."""
    assert "frame_max" not in url("amqp://host/?heartbeat=600&frame_max=1").query
    assert url("amqp://host/?heartbeat=600").query["heartbeat"] == "15"


@pytest.mark.parametrize(
    "given",
    ["http://host/", "host:5672", "amqp:///vhost", "amqp://", "",
     "amqp://host:port/", "amqp://host:99999/", "amqp://u:hunter2@[host/"],
)  # fmt: skip
def test_what_is_no_url_of_rabbitmq_is_told_with_what_to_write(given):
    """And without what may be a password."""
    with pytest.raises(ConfigurationError, match=r"amqp://user:password@host:5672/vhost") as caught:
        url(given)
    assert "hunter2" not in str(caught.value)


def test_a_certificate_is_the_login_where_the_url_names_no_user(tmp_path):
    """EXTERNAL; with a user it is only the transport's."""
    made = url("amqps://host/", tls_cert_file=tmp_path / "cert.pem")
    assert made.query["auth"] == "external"
    assert "auth" not in url("amqps://u:p@host/", tls_cert_file=tmp_path / "cert.pem").query


def test_without_tls_there_is_no_context():
    """Nothing is verified where nothing is encrypted."""
    assert ssl_context(Settings(url="amqp://host/")) is None


def test_tls_verifies_the_server_unless_told_not_to(caplog):
    """And says so in the log when it does not."""
    context = ssl_context(Settings(url="amqps://host/"))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert caplog.records == []
    loose = ssl_context(Settings(url="amqps://host/", tls_insecure=True))
    assert loose.verify_mode is ssl.CERT_NONE
    assert not loose.check_hostname
    assert [vars(r)["setting"] for r in caplog.records] == ["AMQPJOBS_TLS_INSECURE"]


@pytest.mark.parametrize("setting", ["tls_ca_file", "tls_cert_file"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_tls_file_that_cannot_be_read_is_told_with_its_variable(tmp_path, setting, content):
    """Missing, or not what it should be."""
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=f"AMQPJOBS_{setting.upper()}.*{file}"):
        ssl_context(Settings(url="amqps://host/", **{setting: file}))


SETTINGS = Settings(url="amqp://u:hunter2@host/v")


def unverified():
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    error.verify_code = 18
    return error


def unavailable(error, refusal, settings, *, hung_up=False):
    """The error of an attempt on a single node."""
    reason = reason_of(error, settings.connect_timeout, hung_up=hung_up)
    return refused(error, refusal, settings) or unreached(error, reason, settings, hung_up=hung_up)


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "refusal", "words", "temporary"),
    [
        (aiormq_errors.ProbableAuthenticationError("x"), None, "refused the login", False),
        (aiormq_errors.AuthenticationError("EXTERNAL"), None, "only EXTERNAL", False),
        (aiormq_errors.ConnectionClosed(530, "x"), (530, "no vhost v"), "no vhost v", False),
        (aiormq_errors.ConnectionClosed(320, "x"), (320, "FORCED"), "FORCED", True),
        (TimeoutError(), None, "no answer within 10 s", True),
        (ConnectionRefusedError(111, "Connection refused"), None, "Connection refused", True),
        (
            caused(aiormq_errors.AMQPConnectionError("x"), OSError("Name or service not known")),
            None, "Name or service not known", True,
        ),
        (unverified(), None, "self-signed certificate", False),
        (ValueError(), None, "ValueError", True),
    ],
)  # fmt: skip
def test_every_failure_to_connect_is_a_sentence_that_names_the_fix(
    error, refusal, words, temporary
):
    """Where, what, and whether waiting may help; never the password."""
    made = unavailable(error, refusal, SETTINGS)
    assert words in str(made)
    assert "amqp://u@host/v" in str(made) or "certificate of amqp://u@host/v" in str(made)
    assert made.temporary is temporary
    assert "hunter2" not in str(made)


async def served(handle, **settings):
    """What connecting to such a server comes to."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = Link(Settings(url=f"amqp://u:hunter2@127.0.0.1:{port}/", **settings), "publish")
    try:
        with pytest.raises(BrokerUnavailable) as caught:
            await link.connect()
        assert link.last_error is caught.value
        assert link.wire is None
        assert repr(link) == "<Link publish: down, life 0>"
    finally:
        server.close()
        await server.wait_closed()
        await link.close()
    assert "hunter2" not in str(caught.value)
    return str(caught.value)


async def test_a_server_that_speaks_something_else_is_told():
    """The management API's port is the usual mistake."""

    async def http(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    assert "does not speak AMQP" in await served(http)


async def test_a_server_that_hangs_up_is_told():
    """A load balancer with nothing behind it."""

    async def slam(reader, writer):
        writer.close()

    assert "cannot be reached" in await served(slam)


async def test_a_server_that_says_nothing_is_given_up_in_time():
    """After `AMQPJOBS_CONNECT_TIMEOUT`."""
    release = asyncio.Event()

    async def silent(reader, writer):
        await release.wait()
        writer.close()

    told = asyncio.create_task(served(silent, connect_timeout=0.05))
    try:
        async with asyncio.timeout(10):
            while not told.done():
                await asyncio.wait([told], timeout=0.2)
                release.set()
    finally:
        release.set()
    assert "no answer within 0.05 s" in await told


async def test_a_port_where_nobody_listens_is_told():
    """RabbitMQ is not running."""
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    link = Link(Settings(url=f"amqp://127.0.0.1:{port}/"), "consume")
    with pytest.raises(BrokerUnavailable, match="is it running") as caught:
        await link.connect()
    assert caught.value.temporary


async def test_only_a_default_where_nothing_listens_is_not_configured():
    """Then a program does not wait. Where somebody hangs up, or a URL is set, it does."""
    refused = caused(aiormq_errors.AMQPConnectionError("x"), ConnectionRefusedError(111, "refused"))
    default = Settings()
    assert unavailable(refused, None, default).unconfigured
    assert not unavailable(refused, None, SETTINGS).unconfigured
    assert not unavailable(TimeoutError(), None, default).unconfigured
    assert not unavailable(ConnectionResetError(), None, default, hung_up=True).unconfigured


async def test_a_start_waits_for_a_broker_that_is_away(monkeypatch):
    """For so long as was said. With 0 it fails at once, and what waiting does not help, too."""
    monkeypatch.setattr(connection_module, "START_PAUSE", 0.01)
    link = Link(Settings(url="amqp://127.0.0.1:1/"), "consume")
    tries = []

    async def connect():
        tries.append(1)
        if len(tries) < 4:
            raise BrokerUnavailable("away", temporary=len(tries) != 3)
        return "wire"

    monkeypatch.setattr(link, "connect", connect)
    with pytest.raises(BrokerUnavailable, match="away"):
        await link.connect_within(0)
    assert len(tries) == 1
    with pytest.raises(BrokerUnavailable, match="away"):
        await link.connect_within(60)
    assert len(tries) == 3, "the third is for good"
    tries[:] = [1, 1]
    with pytest.raises(BrokerUnavailable):
        await link.connect_within(60)
    assert await link.connect_within(60) == "wire"


async def test_pauses_between_attempts_grow_are_random_and_have_a_limit(monkeypatch):
    """Full jitter: workers that lost one broker must not come back in step."""
    longest = []

    def most(low, high):
        assert low == 0
        longest.append(high)
        return 0.0

    monkeypatch.setattr(connection_module.random, "uniform", most)
    link = Link(Settings(reconnect_limit=1.5), "consume")
    attempts = 0

    async def refuse():
        nonlocal attempts
        attempts += 1
        if attempts == 30:
            raise asyncio.CancelledError
        link.last_error = BrokerUnavailable("away")
        raise link.last_error

    monkeypatch.setattr(link, "connect", refuse)
    with pytest.raises(asyncio.CancelledError):
        await link.run()
    assert longest[:4] == pytest.approx([0.4, 0.8, 1.5, 1.5])
    assert set(longest[2:]) == {1.5}


async def test_without_a_url_and_a_broker_the_error_says_how_to_have_one(monkeypatch):
    """Somebody who has just installed it: there is a default, and nothing is started by itself."""
    for name in URLS:
        monkeypatch.delenv(name, raising=False)
    settings = Settings()
    assert not settings.url_is_given
    settings.__dict__["url"] = SecretStr("amqp://guest:guest@127.0.0.1:1/")
    with pytest.raises(BrokerUnavailable) as caught:
        await Link(settings, "publish").connect()
    assert "\n" not in str(caught.value)
    assert "AMQPJOBS_URL is not set, and none is at amqp://guest@127.0.0.1:1/" in str(caught.value)
    assert "`amqpjobs broker`" in str(caught.value)


@pytest.mark.parametrize("name", URLS)
async def test_with_a_url_the_error_speaks_of_that(monkeypatch, name):
    """From wherever it is."""
    monkeypatch.setenv(name, "amqp://127.0.0.1:1/")
    settings = Settings()
    assert settings.url_is_given
    with pytest.raises(BrokerUnavailable, match="is AMQPJOBS_URL right"):
        await Link(settings, "publish").connect()
