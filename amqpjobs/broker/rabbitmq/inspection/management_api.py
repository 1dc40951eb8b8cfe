"""RabbitMQ's management API, for the little that AMQP cannot tell: how much is unacked.

A convenience: where it does not answer, that is not known. Changes when more is asked of it.
"""

import base64
import json
import urllib.request
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit

from amqpjobs.broker.rabbitmq.tls import verifying_context
from amqpjobs.errors import ConfigurationError
from amqpjobs.settings import Settings

TIMEOUT = 2.0
"""Seconds for an answer."""


class NotAnswered(Exception):
    """It did not answer; the message says why, and what to do."""


def unacked(settings: Settings) -> dict[str, int]:
    """Deliveries that are not settled, by AMQP queue. Blocks for `TIMEOUT` at most.

    Raises:
        NotAnswered: nobody knows.
        ConfigurationError: a TLS file cannot be used.
    """
    url = urlsplit(settings.url.get_secret_value())
    vhost = quote(unquote(url.path[1:]) or "/", safe="")
    rows = _get(settings, f"/api/queues/{vhost}")
    if not isinstance(rows, list):
        raise NotAnswered("what answers is not RabbitMQ's management API")
    return {
        row["name"]: row.get("messages_unacknowledged", 0) for row in rows if isinstance(row, dict)
    }


def address_of(settings: Settings) -> str:
    """Where it is: what the settings say, else the usual port of RabbitMQ's host. Where AMQP is
    encrypted, so is this: the password goes along."""
    if settings.management_url:
        return settings.management_url.rstrip("/")
    url = urlsplit(settings.url.get_secret_value())
    host = url.hostname or "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return f"https://{host}:15671" if url.scheme == "amqps" else f"http://{host}:15672"


def _get(settings: Settings, path: str) -> Any:
    base = address_of(settings)
    if not base.startswith(("http://", "https://")):
        raise ConfigurationError("AMQPJOBS_MANAGEMENT_URL is no http:// or https:// URL")
    context = verifying_context(settings) if base.startswith("https") else None
    request = urllib.request.Request(base + path)  # noqa: S310 - http or https, see above
    request.add_header("Authorization", _login(settings, base))
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as answer:  # noqa: S310
            return json.load(answer)
    except HTTPError as error:
        error.close()
        if error.code in (401, 403):
            raise NotAnswered(
                f"{base} refuses the user of AMQPJOBS_URL: `rabbitmqctl set_user_tags USER "
                "management` lets it look"
            ) from error
        raise NotAnswered(f"{base} answers {error.code}: see AMQPJOBS_MANAGEMENT_URL") from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise NotAnswered(f"{base} ({reason}): see AMQPJOBS_MANAGEMENT_URL") from error
    except ValueError as error:
        raise NotAnswered(f"{base} answers no JSON: see AMQPJOBS_MANAGEMENT_URL") from error


def _login(settings: Settings, base: str) -> str:
    url = urlsplit(settings.url.get_secret_value())
    if not url.username and settings.tls_cert_file is not None:
        # It takes no certificate, and guest's password is nobody's here.
        raise NotAnswered(f"{base} wants a user and a password, and AMQPJOBS_URL has none")
    login = f"{unquote(url.username or 'guest')}:{unquote(url.password or 'guest')}"
    return "Basic " + base64.b64encode(login.encode()).decode()
