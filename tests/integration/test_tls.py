"""The same way of every message inside of TLS: verified, with a password or a certificate."""

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import BaseModel, SecretStr

from amqpjobs import App
from amqpjobs.broker.rabbitmq import addresses
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.inspection.management_api import NotAnswered, address_of, unacked
from amqpjobs.broker.rabbitmq.tls import ssl_context
from amqpjobs.errors import BrokerUnavailable, ConfigurationError
from amqpjobs.settings import Settings
from amqpjobs.worker import Worker
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import Broker, free_ports
from tests.support.brokers.certificates import CLIENT, LOCALHOST, certificates, stranger
from tests.support.programs import command, environment

COUNT = 1_000

SECRET = "correct-horse"
"""A password that must be in no message."""


class Item(BaseModel):
    number: int
    padding: str = ""


def tls_url(broker: VirtualHost, login: str = "guest:guest@") -> str:
    """The port with TLS, in this test's virtual host."""
    server = broker.server
    if not isinstance(server, Broker):
        pytest.skip("the given server's certificates are not ours")
    return f"amqps://{login}127.0.0.1:{server.tls_port}/{quote(broker.name, safe='')}"


def settings(broker: VirtualHost, **changes: object) -> Settings:
    values: dict[str, object] = {
        "url": tls_url(broker), "tls_ca_file": certificates().authority, "shutdown_timeout": 3.0,
    }  # fmt: skip
    return Settings.model_validate(values | changes)


async def publish_and_consume(given: Settings) -> set[int]:
    app = App("tls", settings=given)
    seen: set[int] = set()
    done = asyncio.Event()

    @app.job(queue="tls")
    async def take(item: Item) -> None:
        seen.add(item.number)
        if len(seen) == COUNT:
            done.set()

    # Every hundredth body is larger than a TLS record and than an AMQP frame.
    messages = (
        take.message(Item(number=n, padding="x" * (200_000 if n % 100 == 0 else 10)))
        for n in range(COUNT)
    )
    async with app.lifespan():
        await app.later_many(messages)
        worker = Worker(app, ["tls"], concurrency=50)
        working = asyncio.ensure_future(worker.run())
        async with asyncio.timeout(30):
            await done.wait()
        worker.stop()
        await working
    return seen


async def test_messages_flow_inside_of_tls(broker: VirtualHost) -> None:
    """Published, confirmed, consumed and acked, small and large."""
    assert await publish_and_consume(settings(broker)) == set(range(COUNT))


async def test_a_certificate_is_a_login(broker: VirtualHost) -> None:
    """EXTERNAL: a client certificate, and no user in the URL."""
    broker.server.add_user(CLIENT, "not used")
    broker.server.set_permissions(CLIENT, broker.name)
    pem, key = certificates().client
    given = settings(
        broker,
        url=tls_url(broker, login=""),
        tls_cert_file=pem,
        tls_key_file=key,
    )
    assert await publish_and_consume(given) == set(range(COUNT))


async def test_an_unknown_authority_is_refused(broker: VirtualHost, tmp_path: Path) -> None:
    """Said once, with the setting that fixes it; trying again would not help."""
    app = App("tls", settings=settings(broker, tls_ca_file=None))
    with pytest.raises(BrokerUnavailable, match="AMQPJOBS_TLS_CA_FILE") as caught:
        async with app.lifespan():
            pass
    assert not caught.value.temporary


@dataclass(frozen=True)
class Place:
    """A RabbitMQ with more ports for TLS than usual."""

    node: Broker
    vhost: str
    expired: int
    elsewhere: int
    demanding: int

    def url(self, port: int, login: str = f"guest:{SECRET}@", scheme: str = "amqps") -> str:
        return f"{scheme}://{login}127.0.0.1:{port}/{quote(self.vhost, safe='')}"

    def logins(self, *mechanisms: str) -> None:
        names = ",".join(f"'{name}'" for name in mechanisms)
        self.node.ctl("eval", f"application:set_env(rabbit, auth_mechanisms, [{names}]).")


@pytest.fixture
def place(broker: VirtualHost) -> Iterator[Place]:
    """With a certificate that has expired, one of another host, and one that asks for the client's;
    all of this broker's own, while the test runs."""
    node = broker.server
    if not isinstance(node, Broker):
        pytest.skip("the given server's certificates are not ours")
    made = certificates()
    expired, elsewhere, demanding = free_ports(3)
    listeners = (
        (expired, made.issued("expired", LOCALHOST, days=-1), "false"),
        (elsewhere, made.issued("elsewhere", "subjectAltName=DNS:rabbit.example.org"), "false"),
        (demanding, made.server, "true"),
    )
    for _, files, _ in listeners:
        for file in files:
            (node.home / file.name).write_bytes(file.read_bytes())
    node.ctl("eval", ",".join(
        f'rabbit_networking:start_ssl_listener({{"127.0.0.1",{port}}},'
        f'[{{cacertfile,"{node.home}/{made.authority.name}"}},{{certfile,"{node.home}/{pem.name}"}},'
        f'{{keyfile,"{node.home}/{key.name}"}},{{verify,verify_peer}},'
        f"{{fail_if_no_peer_cert,{demands}}}],1)"
        for port, (pem, key), demands in listeners
    ) + ".")  # fmt: skip
    found = Place(node, broker.name, expired, elsewhere, demanding)
    try:
        yield found
    finally:
        found.logins("PLAIN", "AMQPLAIN", "EXTERNAL")
        node.ctl("eval", ",".join(
            f"ranch:stop_listener(rabbit_networking:ranch_ref({{127,0,0,1}},{port}))"
            for port in (expired, elsewhere, demanding)
        ) + ".")  # fmt: skip


def shown(files: tuple[Path, Path]) -> dict[str, object]:
    """The settings for a client's certificate and its key."""
    return {"tls_cert_file": files[0], "tls_key_file": files[1]}


async def refused(**given: object) -> BrokerUnavailable:
    """What connecting comes to: an error within seconds, without a secret."""
    link = Link(Settings.model_validate(given), "publish")
    try:
        async with asyncio.timeout(8):
            with pytest.raises(BrokerUnavailable) as caught:
                await link.connect()
    finally:
        await link.close()
    assert SECRET not in str(caught.value)
    return caught.value


async def test_whatever_does_not_fit_is_said_with_its_fix(
    place: Place, subtests: pytest.Subtests
) -> None:
    """Of the server's certificate, of the client's, and of the logins that RabbitMQ takes."""
    made = certificates()
    tls, plain, none = place.node.tls_port, place.node.port, ""
    ca, usage = {"tls_ca_file": made.authority}, "extendedKeyUsage=clientAuth"
    own = shown(made.issued("nobody", usage))
    other, old = (
        shown(made.issued("unknown", usage, by=stranger())),
        shown(made.issued("old-client", usage, days=-1)),
    )
    both = ("EXTERNAL", "PLAIN")
    for what, logins, words, given in (
        ("unknown authority", both, "AMQPJOBS_TLS_CA_FILE", {"url": place.url(tls)}),
        ("expired", both, "renew it", {"url": place.url(place.expired), **ca}),
        ("another host", both, "subjectAltName", {"url": place.url(place.elsewhere), **ca}),
        ("TLS to the plain port", both, "5671", {"url": place.url(plain), **ca}),
        ("plain to the TLS port", both, "amqps://", {"url": place.url(tls, scheme="amqp")}),
        ("none given", both, "AMQPJOBS_TLS_CERT_FILE", {"url": place.url(place.demanding), **ca}),
        ("unknown to it", both, "AMQPJOBS_TLS_CERT_FILE", {"url": place.url(tls), **ca, **other}),
        ("expired client", both, "AMQPJOBS_TLS_CERT_FILE", {"url": place.url(tls), **ca, **old}),
        ("no such user", both, "needs a user of its", {"url": place.url(tls, none), **ca, **own}),
        ("wrong password", both, "check the user and the password", {"url": place.url(tls), **ca}),
        ("only certificates", ("EXTERNAL",), "TLS_CERT_FILE", {"url": place.url(tls), **ca}),
        ("only passwords", ("PLAIN",), "add EXTERNAL", {"url": place.url(tls, none), **ca, **own}),
    ):  # fmt: skip
        with subtests.test(what):
            if logins != both:
                place.logins(*logins)
            assert words in str(await refused(**given))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"tls_ca_file": "absent.pem"}, r"AMQPJOBS_TLS_CA_FILE: .*absent\.pem cannot be read"),
        ({"tls_ca_file": "empty.pem"}, "AMQPJOBS_TLS_CA_FILE: .* no certificate in PEM form"),
        ({"tls_cert_file": "absent.pem"}, "AMQPJOBS_TLS_CERT_FILE: .* cannot be read"),
        ({"tls_cert_file": "client.pem", "tls_key_file": "absent.key"},
         "AMQPJOBS_TLS_KEY_FILE: .* cannot be read"),
        ({"tls_cert_file": "client.pem"}, "a key in a file of its own is AMQPJOBS_TLS_KEY_FILE"),
        ({"tls_cert_file": "client.pem", "tls_key_file": "empty.pem"}, "in PEM form"),
        ({"tls_cert_file": "client.pem", "tls_key_file": "server.key"}, "is not that of"),
        ({"tls_cert_file": "client.pem", "tls_key_file": "locked.key"},
         "protected by a password: set AMQPJOBS_TLS_KEY_PASSWORD"),
        ({"tls_cert_file": "client.pem", "tls_key_file": "locked.key",
          "tls_key_password": "hunter2"}, "AMQPJOBS_TLS_KEY_PASSWORD does not open"),
        ({"tls_key_file": "client.key"}, "set AMQPJOBS_TLS_CERT_FILE"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_said_with_its_variable(
    tmp_path: Path, files: dict[str, str], words: str
) -> None:
    """Which file, what is wrong with it, and no password; OpenSSL names none of it."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        ssl_context(Settings.model_validate({"url": "amqps://host/", **tls_files(tmp_path, files)}))
    assert "hunter2" not in str(caught.value)


def tls_files(folder: Path, files: dict[str, str]) -> dict[str, str]:
    made = certificates()
    for path in (*made.client, *made.server):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "empty.pem").touch()
    encrypt = ["openssl", "ec", "-aes256", "-passout", f"pass:{SECRET}", "-in", made.client[1]]
    subprocess.run([*encrypt, "-out", folder / "locked.key"], check=True, capture_output=True)
    return {k: v if k == "tls_key_password" else str(folder / v) for k, v in files.items()}


def test_a_key_with_a_password_is_opened_by_it(tmp_path: Path) -> None:
    """Nobody is asked at the terminal."""
    names = {"tls_cert_file": "client.pem", "tls_key_file": "locked.key"}
    files = tls_files(tmp_path, {**names, "tls_key_password": SECRET})
    assert ssl_context(Settings.model_validate({"url": "amqps://host/", **files})) is not None


def test_a_certificate_without_tls_is_a_mistake(tmp_path: Path) -> None:
    """It would be the login, and nobody would see it."""
    files = tls_files(tmp_path, {"tls_cert_file": "client.pem", "tls_key_file": "client.key"})
    with pytest.raises(ConfigurationError, match="amqps://"):
        ssl_context(Settings.model_validate({"url": "amqp://host/", **files}))


def test_the_command_line_ends_with_what_it_was(broker_43: VirtualHost, tmp_path: Path) -> None:
    """Status 3 for what RabbitMQ or its certificate refuses, 2 for what is wrong here; one line."""
    files = tls_files(tmp_path, {"tls_cert_file": "client.pem", "tls_key_file": "locked.key"})
    url = tls_url(broker_43, f"guest:{SECRET}@")
    authority = str(certificates().authority)
    for status, words, variables in (
        (3, "AMQPJOBS_TLS_CA_FILE", {}),
        (3, "refused the login", {"AMQPJOBS_TLS_CA_FILE": authority}),
        (2, "AMQPJOBS_TLS_KEY_PASSWORD",
         {f"AMQPJOBS_{name.upper()}": value for name, value in files.items()}),
    ):  # fmt: skip
        env = environment(broker_43.url, tmp_path)
        env.pop("AMQPJOBS_TLS_CA_FILE", None)  # of the suite, when all of it runs over TLS
        env |= {"AMQPJOBS_URL": url, **variables}
        done = command("consume", "work", env=env, timeout=20)
        assert done.returncode == status, str(done)
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert SECRET not in done.stdout + done.stderr


def test_the_management_api_is_asked_over_tls(broker: VirtualHost) -> None:
    """With the same authority as RabbitMQ itself; without it nobody is told a password."""
    server = broker.server
    if not isinstance(server, Broker):
        pytest.skip("the given server's certificates are not ours")
    given = settings(broker, management_url=server.tls_management_url)
    assert unacked(given) == {}
    with pytest.raises(NotAnswered, match="certificate verify failed"):
        unacked(given.model_copy(update={"tls_ca_file": None}))
    with pytest.raises(NotAnswered, match="set_user_tags USER management"):
        unacked(given.model_copy(update={"url": SecretStr(tls_url(broker, "guest:wrong@"))}))


def test_the_management_api_is_looked_for_where_rabbitmq_is() -> None:
    """Encrypted where that is: the password goes along."""
    for url, address in (
        ("amqp://u:p@rabbit/v", "http://rabbit:15672"),
        ("amqps://u:p@rabbit/v", "https://rabbit:15671"),
        ("amqps://u:p@[::1]/v", "https://[::1]:15671"),
    ):
        assert address_of(Settings.model_validate({"url": url})) == address
    nobody = Settings.model_validate(
        {"url": "amqps://rabbit/", "tls_cert_file": certificates().client[0],
         "tls_key_file": certificates().client[1]}
    )  # fmt: skip
    with pytest.raises(NotAnswered, match="wants a user and a password"):
        unacked(nobody)


async def test_the_certificate_is_checked_for_the_host_of_each_node(
    broker: VirtualHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By the name in the URL, whatever its address: a node that the certificate does not name is
    passed over, and the next one is checked for its own name."""
    url = tls_url(broker)
    _, _, place = url.partition("@127.0.0.1:")
    port = place.partition("/")[0]
    resolve = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **options: Any) -> list[Any]:
        return resolve("127.0.0.1" if host.endswith(".example") else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(addresses.random, "sample", lambda items, count: list(items))
    given = settings(broker, url=url.replace("@127.0.0.1:", f"@other.example:{port},127.0.0.1:"))
    link = Link(given, "publish")
    assert str((await link.connect()).place) == f"127.0.0.1:{port}"
    await link.close()
    [passed] = [vars(r) for r in caplog.records if r.msg == "node unavailable, trying another"]
    assert passed["node"] == f"other.example:{port} (127.0.0.1)"
    assert "write a host that the certificate names" in passed["error"]
