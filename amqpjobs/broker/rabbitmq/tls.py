"""The TLS context of a connection: the CA to trust, and the client certificate.

Changes when a setting of TLS is added.
"""

import logging
import ssl
from pathlib import Path

from amqpjobs.errors import ConfigurationError
from amqpjobs.settings import Settings

log = logging.getLogger("amqpjobs.rabbitmq")


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """For RabbitMQ's own port; None where the URL asks for no TLS.

    Raises:
        ConfigurationError: a file that is missing, or that cannot be what it should be.
    """
    if settings.broker_url.encrypted:
        return verifying_context(settings)
    if settings.tls_cert_file is not None:
        raise ConfigurationError(
            "AMQPJOBS_TLS_CERT_FILE is set, and AMQPJOBS_URL is without TLS: write amqps://, whose "
            "port is 5671"
        )
    return None


def verifying_context(settings: Settings) -> ssl.SSLContext:
    """One that verifies servers, unless the settings forbid it, and has the client's certificate.

    Raises:
        ConfigurationError: a file that is missing, or that cannot be what it should be.
    """
    authority = _readable("AMQPJOBS_TLS_CA_FILE", settings.tls_ca_file)
    try:
        context = ssl.create_default_context(cafile=authority)
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"AMQPJOBS_TLS_CA_FILE: {authority} holds no certificate in PEM form"
        ) from error
    _show_certificate(context, settings)
    if settings.tls_insecure:
        log.warning(
            "server certificate is not verified", extra={"setting": "AMQPJOBS_TLS_INSECURE"}
        )
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _show_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    certificate = _readable("AMQPJOBS_TLS_CERT_FILE", settings.tls_cert_file)
    key = _readable("AMQPJOBS_TLS_KEY_FILE", settings.tls_key_file)
    if certificate is None:
        if key is not None:
            raise ConfigurationError(
                "AMQPJOBS_TLS_KEY_FILE is set without its certificate: set AMQPJOBS_TLS_CERT_FILE"
            )
        return
    asked = False

    def password() -> str:
        # Without this OpenSSL asks at the terminal, and a service would wait there for ever.
        nonlocal asked
        asked = True
        given = settings.tls_key_password
        return given.get_secret_value() if given is not None else ""

    try:
        context.load_cert_chain(certificate, key, password)
    except (ssl.SSLError, ValueError) as error:
        problem = _problem_of_key(error, key or certificate, certificate, settings, asked=asked)
        raise ConfigurationError(problem) from error


def _problem_of_key(
    error: Exception, key: Path, certificate: Path, settings: Settings, *, asked: bool
) -> str:
    if asked and settings.tls_key_password is None:
        return f"the key in {key} is protected by a password: set AMQPJOBS_TLS_KEY_PASSWORD"
    if asked:
        return f"AMQPJOBS_TLS_KEY_PASSWORD does not open the key in {key}"
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return (
            f"the key in {key} is not that of the certificate in {certificate}: see "
            "AMQPJOBS_TLS_KEY_FILE and AMQPJOBS_TLS_CERT_FILE"
        )
    if settings.tls_key_file is None:
        return (
            f"AMQPJOBS_TLS_CERT_FILE: {certificate} does not hold both a certificate and its key "
            "in PEM form; a key in a file of its own is AMQPJOBS_TLS_KEY_FILE"
        )
    return (
        f"{certificate} holds no certificate, or {key} no key, in PEM form: see "
        "AMQPJOBS_TLS_CERT_FILE and AMQPJOBS_TLS_KEY_FILE"
    )


def _readable(variable: str, path: Path | None) -> Path | None:
    """The path, if its file can be read; OpenSSL does not say which of its files is missing."""
    if path is None:
        return None
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ConfigurationError(f"{variable}: {path} cannot be read: {error.strerror}") from error
