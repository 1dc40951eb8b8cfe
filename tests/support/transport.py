"""How the library under test reaches a broker of the suite: plainly, or inside of TLS.

With ``AMQPJOBS_TEST_TLS=1`` the same tests run over TLS; foreign clients and proxies stay plain.
"""

import os
from typing import Any
from urllib.parse import urlsplit

from tests.brokers import TLS_PORTS
from tests.certificates import certificates

TLS = os.environ.get("AMQPJOBS_TEST_TLS", "") not in ("", "0")


def reach(url: str) -> dict[str, Any]:
    """The settings `url` and, for TLS, `tls_ca_file`."""
    parts = urlsplit(url)
    if not TLS or parts.scheme != "amqp" or parts.port not in TLS_PORTS:
        return {"url": url}
    login, _, _ = parts.netloc.rpartition("@")
    place = f"{login}@127.0.0.1:{TLS_PORTS[parts.port]}"
    return {
        "url": parts._replace(scheme="amqps", netloc=place).geturl(),
        "tls_ca_file": str(certificates().authority),
    }


def reach_by_environment(url: str) -> dict[str, str]:
    """The same as variables."""
    return {f"AMQPJOBS_{name.upper()}": value for name, value in reach(url).items()}
