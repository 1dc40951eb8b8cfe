"""How the library under test reaches a broker of the suite: plainly, or inside of TLS.

With ``AMQPJOBS_TEST_TLS=1`` the same tests run over TLS; foreign clients and proxies stay plain.
"""

import os
from typing import Any
from urllib.parse import urlsplit

from tests.support.brokers.brokers import TLS_PORTS
from tests.support.brokers.certificates import certificates

TLS = os.environ.get("AMQPJOBS_TEST_TLS", "") not in ("", "0")


def reach(url: str) -> dict[str, Any]:
    """The settings `url` and, for TLS, `tls_ca_file`."""
    if not TLS:
        return {"url": url}
    parts = urlsplit(url)
    port = port_of(url)
    if parts.scheme != "amqp" or port not in TLS_PORTS.values():
        return {"url": url}
    login, _, _ = parts.netloc.rpartition("@")
    place = f"{login}@127.0.0.1:{port}"
    return {
        "url": parts._replace(scheme="amqps", netloc=place).geturl(),
        "tls_ca_file": str(certificates().authority),
    }


def port_of(url: str) -> int | None:
    """The port that the library comes to; None for a URL that names none, or nonsense."""
    try:
        port = urlsplit(url).port
    except ValueError:
        return None
    return TLS_PORTS.get(port, port) if TLS and port is not None else port


def reach_by_environment(url: str) -> dict[str, str]:
    """The same as variables."""
    return {f"AMQPJOBS_{name.upper()}": value for name, value in reach(url).items()}
