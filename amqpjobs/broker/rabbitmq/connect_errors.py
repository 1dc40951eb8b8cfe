"""Maps every failure to connect to a `BrokerUnavailable` whose message says how to fix it.

Changes when a message about a failed connect does.
"""

import re
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiormq import exceptions as aiormq_errors

from amqpjobs.broker.rabbitmq.addresses import Round
from amqpjobs.broker.rabbitmq.splitter import SplitterProtocol
from amqpjobs.broker_url import Node
from amqpjobs.errors import AmqpJobsError, BrokerUnavailable, ProtocolError
from amqpjobs.settings import Settings

_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21, 27}
"""Of OpenSSL's X509_V_ERR_*: no issuer, self-signed, first in the chain, untrusted."""

_EXPIRED, _NOT_YET_VALID = 10, 9
_OTHER_NAME = {62, 63, 64}

_NO_TLS = ("WRONG_VERSION_NUMBER", "UNSUPPORTED_PROTOCOL", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
"""Reasons of OpenSSL for bytes that are no TLS."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt to connect that failed.

    Attributes:
        node: as the URL names it.
        where: the same, with its address if it has a name.
        error: for the user, if there is no other node.
        cause: aiormq's error, or the machine's.
        reason: why the node cannot be reached; None if it answered, and refused.
        for_all: whether all nodes of a cluster would answer so.
    """

    node: Node
    where: str
    error: BrokerUnavailable
    cause: BaseException
    reason: str | None
    for_all: bool


def failure_of(
    error: BaseException,
    protocol: SplitterProtocol | None,
    attempts: Round,
    settings: Settings,
) -> Failed:
    """What an attempt came to.

    Args:
        error: aiormq's, or the machine's.
        protocol: of the connection; None if there was none.
        attempts: whose last one it was.
        settings: with which it was tried.
    """
    there, reason, hung_up = settings.at(attempts.node), None, protocol is not None
    problem = protocol.error if protocol is not None else None
    if problem is not None and isinstance(error, BrokerUnavailable | ProtocolError):
        # aiormq may make a CancelledError of bytes that are not AMQP.
        told: BrokerUnavailable | None = not_amqp(problem, there)
    else:
        told = refused(error, protocol.refusal if protocol is not None else None, there)
    if told is None:
        reason = reason_of(error, attempts.seconds, hung_up=hung_up)
        told = unreached(error, reason, there, hung_up=hung_up)
    # Users and passwords are the same on all nodes of a cluster; a virtual host may be down on one.
    for_all = isinstance(error, aiormq_errors.ProbableAuthenticationError)
    return Failed(attempts.node, attempts.where, told, error, reason, for_all)


def none_of(failures: Sequence[Failed], settings: Settings) -> BrokerUnavailable:
    """The error when the last of the nodes has failed."""
    last = failures[-1]
    if len(failures) == 1 or last.for_all:
        return last.error
    # A node that answers at one address need not answer at its others, such as those of IPv6.
    answers = [each for each in failures if each.reason is None]
    answered = {each.node for each in answers}
    unanswered = [each for each in failures if each.node not in answered]
    temporary = bool(unanswered) or any(each.error.temporary for each in answers)
    away = "; ".join(f"{each.where}: {each.reason}" for each in unanswered)
    if answers:
        others = f". Others cannot be reached ({away})" if away else ""
        told = list(dict.fromkeys(str(each.error) for each in answers))
        return BrokerUnavailable("; ".join(told) + others, temporary=temporary)
    return BrokerUnavailable(
        f"RabbitMQ at {settings.safe_url} cannot be reached ({away}): is it running, and is "
        "AMQPJOBS_URL right?",
        temporary=temporary,
    )


def refused(
    error: BaseException, refusal: tuple[int, str] | None, settings: Settings
) -> BrokerUnavailable | None:
    """The error of a node that answered; None if there was no answer.

    Args:
        error: aiormq's, or the machine's.
        refusal: code and words of the broker's `connection.close`, if it sent one.
        settings: with which it was tried.
    """
    where = settings.safe_url
    if isinstance(error, aiormq_errors.ProbableAuthenticationError):
        return BrokerUnavailable(_login_refused(settings), temporary=False)
    if isinstance(error, aiormq_errors.AuthenticationError):
        return BrokerUnavailable(_no_mechanism(error, settings), temporary=False)
    if refusal is not None and re.search(r"connection limit \(\d+\) is reached", refusal[1]):
        return BrokerUnavailable(
            f"RabbitMQ at {where} takes no more connections: {refusal[1]} ({refusal[0]}); a worker "
            "needs two. Raise the limit (`rabbitmqctl set_vhost_limits` or `set_user_limits`, "
            "max-connections), or run fewer processes"
        )
    if refusal is not None:
        return BrokerUnavailable(
            f"RabbitMQ at {where} refused the connection: {refusal[1]} ({refusal[0]}); check the "
            "virtual host in AMQPJOBS_URL and the user's permissions for it",
            temporary=refusal[0] != 530,
        )
    problem = _tls_problem(error, settings)
    return None if problem is None else BrokerUnavailable(problem, temporary=False)


def reason_of(error: BaseException, seconds: float, *, hung_up: bool) -> str:
    """Why a node cannot be reached."""
    if isinstance(error, TimeoutError):
        return f"no answer within {round(seconds, 2):g} s"
    if hung_up:
        return "the server closed the connection before the handshake"
    cause = error.__cause__ or error
    return str(cause) or repr(cause)


def unreached(
    error: BaseException, reason: str, settings: Settings, *, hung_up: bool
) -> BrokerUnavailable:
    """The error of a node that cannot be reached.

    Args:
        error: aiormq's, or the machine's.
        reason: what it comes to.
        settings: with which it was tried.
        hung_up: whether a server was there, and took the connection.
    """
    where = settings.safe_url
    if not settings.url_is_given:
        return BrokerUnavailable(
            f"there is no broker: AMQPJOBS_URL is not set, and none is at {where} ({reason}); set "
            "it, or run `amqpjobs broker`, which is one for development",
            unconfigured=any(isinstance(e, ConnectionRefusedError) for e in _causes(error)),
        )
    guess = _guess(settings) if hung_up and not isinstance(error, TimeoutError) else ""
    return BrokerUnavailable(
        f"RabbitMQ at {where} cannot be reached ({reason}): is it running, and is AMQPJOBS_URL "
        f"right?{guess}"
    )


def _guess(settings: Settings) -> str:
    """What may be the matter with a server that hung up: RabbitMQ does so over what is no TLS, and
    3.10 over certificates as well, before its word on them has arrived."""
    if not settings.broker_url.encrypted:
        return " If its port is one for TLS (5671), write amqps://"
    if settings.tls_cert_file is None:
        return " It may want a client certificate: AMQPJOBS_TLS_CERT_FILE"
    return " It may not take the certificate in AMQPJOBS_TLS_CERT_FILE: its log says why"


def not_amqp(problem: AmqpJobsError, settings: Settings) -> BrokerUnavailable:
    """The error for a peer whose bytes are no AMQP."""
    return BrokerUnavailable(
        f"what answers at {settings.safe_url} does not speak AMQP ({problem}): is the port in "
        "AMQPJOBS_URL right? RabbitMQ's is 5672, or 5671 with amqps://"
    )


def _login_refused(settings: Settings) -> str:
    refused = f"RabbitMQ at {settings.safe_url} refused the login"
    if settings.broker_url.user:
        return (
            f"{refused}: check the user and the password in AMQPJOBS_URL (guest may only log in "
            "from the same machine)"
        )
    if settings.tls_cert_file is None:
        return (
            f"{refused}: AMQPJOBS_URL has no user, so guest was tried; write "
            "amqps://user:password@..., or set AMQPJOBS_TLS_CERT_FILE to log in by a certificate"
        )
    return (
        f"{refused} by the certificate in AMQPJOBS_TLS_CERT_FILE: RabbitMQ needs a user of its "
        "name: of its whole subject, or of its common name with `ssl_cert_login_from = common_name`"
    )


def _no_mechanism(error: BaseException, settings: Settings) -> str:
    offered = str(error.args[0]) if error.args else "others"
    where = settings.safe_url
    if settings.tls_cert_file is not None and "EXTERNAL" not in offered:
        return (
            f"RabbitMQ at {where} takes no certificate as a login, only {offered}: enable its "
            "plugin rabbitmq_auth_mechanism_ssl and add EXTERNAL to auth_mechanisms, or put a user "
            "into AMQPJOBS_URL"
        )
    if "PLAIN" not in offered.split():
        return (
            f"RabbitMQ at {where} takes no password as a login, only {offered}: set "
            "AMQPJOBS_TLS_CERT_FILE and _KEY_FILE, and leave the user out of AMQPJOBS_URL"
        )
    return f"RabbitMQ at {where} offers no login that is known here, only {offered}"


def _tls_problem(error: BaseException, settings: Settings) -> str | None:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _not_verified(cause, settings)
        if isinstance(cause, ssl.SSLError):
            return _tls_failed(cause, settings)
    return None


def _causes(error: BaseException) -> Iterable[BaseException]:
    """The error, and what it came of; aiormq's may come of themselves."""
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _not_verified(error: ssl.SSLCertVerificationError, settings: Settings) -> str:
    certificate = f"the certificate of {settings.safe_url} does not verify ({error.verify_message})"
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        return f"{certificate}: renew it on the server; or this machine's clock is wrong"
    if error.verify_code in _OTHER_NAME:
        return (
            f"{certificate}: write a host that the certificate names into AMQPJOBS_URL, or have "
            "one issued with this host as its subjectAltName"
        )
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return f"{certificate}: give the CA that has signed it in AMQPJOBS_TLS_CA_FILE"
    return f"{certificate}: see AMQPJOBS_TLS_CA_FILE"


def _tls_failed(error: ssl.SSLError, settings: Settings) -> str:
    where, reason = settings.safe_url, error.reason or str(error)
    if any(words in reason for words in _NO_TLS):
        return (
            f"what answers at {where} does not speak TLS ({reason}): RabbitMQ's port for amqps:// "
            "is 5671; its port 5672 is for amqp://"
        )
    if settings.tls_cert_file is None and "CERTIFICATE_REQUIRED" in reason:
        return (
            f"RabbitMQ at {where} wants a client certificate: set AMQPJOBS_TLS_CERT_FILE and "
            "_KEY_FILE"
        )
    if settings.tls_cert_file is not None and ("CERTIFICATE" in reason or "_CA" in reason):
        return (
            f"RabbitMQ at {where} does not take the certificate in AMQPJOBS_TLS_CERT_FILE "
            f"({reason}): it has to be valid, and signed by a CA in the server's "
            "`ssl_options.cacertfile`"
        )
    return f"TLS with {where} failed ({reason})"
