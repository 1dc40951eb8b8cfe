"""Settings from the environment and from secret files. Changes when a setting is added."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from amqpjobs.broker_url import BrokerUrl, Node, parse_broker_url, without_password
from amqpjobs.errors import ConfigurationError

DEFAULT_URL = "amqp://guest:guest@127.0.0.1:5672/"
DEFAULT_STORE = "sqlite:///amqpjobs.db"

LONGEST = 3_153_600_000
"""Seconds: a hundred years."""


FORMS = "seconds, or a duration such as 500ms, 90s, 5m, 1h30m or 7d"
"""What the text of a duration may be."""

_UNITS: Final = {
    "ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800
}  # fmt: skip

_PART: Final = r"(\d+(?:\.\d+)?)\s*(ms|sec|s|min|m|h|d|w)\s*"


def seconds_of(text: str) -> float | None:
    """The seconds of a text such as ``90``, ``90s``, ``2 min`` or ``1h30m``; None for another."""
    text = text.strip()
    try:
        return float(text)
    except ValueError:
        if re.fullmatch(f"(?:{_PART})+", text, re.ASCII) is None:
            return None
    parts = re.findall(_PART, text, re.ASCII)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


SIZE_FORMS = "bytes, or a size such as 512MiB, 1GiB, 512Mi or 500MB"
"""What the text of a size may be."""

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?", re.ASCII | re.IGNORECASE)


def bytes_of(text: str) -> int | None:
    """The bytes of a text such as ``1048576``, ``512MiB`` or Kubernetes' ``512Mi``; with ``KB``,
    ``MB`` and ``GB`` a power of 1000. None for another text."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    number, prefix, binary = found.groups()
    power = 0 if prefix is None else "kmgt".index(prefix.lower()) + 1
    return int(float(number) * (1024 if binary else 1000) ** power)


def _as_bytes(value: object) -> object:
    if not isinstance(value, str):
        return value
    size = bytes_of(value)
    if size is None:
        raise ValueError(f"give {SIZE_FORMS}")
    return size


def _as_seconds(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if not isinstance(value, str):
        return value
    seconds = seconds_of(value)
    if seconds is None:
        raise ValueError(f"give {FORMS}")
    return seconds


_Seconds = Annotated[float, BeforeValidator(_as_seconds)]
_SomeSeconds = Annotated[_Seconds, Field(gt=0)]
_SomeBytes = Annotated[int, BeforeValidator(_as_bytes), Field(gt=0)]


def _in_small_letters(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class Settings(BaseSettings):
    """Everything that differs between deployments; all but the URL from ``AMQPJOBS_*``.

    Flag > environment > secret file (``AMQPJOBS_SECRETS_DIR``, one file a setting) > default.
    Unknown variables are left alone. Sizes are bytes. Durations are seconds; variables and files
    may say ``90s``, ``5m`` or ``1h30m`` as well, and programs may give a `timedelta`.

    Example:
        >>> app = App("shop", settings=Settings(concurrency=20, shutdown_timeout=60))
        >>> app.settings.concurrency
        20
    """

    model_config = SettingsConfigDict(
        env_prefix="AMQPJOBS_", env_ignore_empty=True, extra="ignore", populate_by_name=True
    )

    url: SecretStr = Field(
        default=SecretStr(DEFAULT_URL),
        validation_alias=AliasChoices("AMQPJOBS_URL", "AMQP_URL", "RABBITMQ_URL", "CLOUDAMQP_URL"),
    )
    """Where RabbitMQ is: ``amqp://user:password@host:5672/vhost``, or ``amqps://`` for TLS. The
    nodes of a cluster are separated by commas: ``amqp://user:password@host-1,host-2,host-3``."""

    heartbeat: Annotated[int, BeforeValidator(_as_seconds), Field(ge=2, le=600)] = 15
    """A peer that is silent for about three times this is taken for dead."""

    connect_timeout: _SomeSeconds = 10.0
    """How long one attempt to connect may take: to one node, all of it. Several nodes, or addresses
    of one name, are tried in turn, and each has its share, but 3 seconds at least."""

    reconnect_limit: _SomeSeconds = 20.0
    """The longest pause between two attempts to reconnect; the pauses grow and are random."""

    wait: Annotated[_Seconds, Field(ge=0, le=LONGEST)] = 0.0
    """How long a worker waits for RabbitMQ at its start; then it ends with an error."""

    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_key_password: SecretStr | None = None
    """Of a key that has one."""

    tls_insecure: bool = False
    """Do not verify the server's certificate. Never in production."""

    management_url: str | None = None
    """RabbitMQ's management API, for what AMQP cannot tell; None: port 15672 of the same host."""

    publish_timeout: _SomeSeconds = 30.0
    """How long ``later`` waits for the broker's confirm, reconnecting if it must."""

    request_timeout: _SomeSeconds = 30.0
    """How long ``request`` waits for the answer, if it does not say so itself."""

    no_worker_timeout: Annotated[_Seconds, Field(ge=0)] = 5.0
    """How long the queue of a request may have no consumer until the request fails. 0: it waits out
    its own time."""

    max_message_size: PositiveInt = 1_048_576
    """The largest body that is sent or accepted."""

    compress: Annotated[Literal["off", "gzip", "zstd"], BeforeValidator(_in_small_letters)] = "off"
    """How large bodies are compressed: ``off``, ``gzip`` or ``zstd``. Any worker undoes it."""

    compress_above: Annotated[int, Field(ge=0)] = 16_384
    """Bodies of more bytes than this are compressed."""

    declare_topology: bool = Field(default=True, validation_alias="AMQPJOBS_DECLARE")
    """Declare queues at start. If not, or not permitted, they are only checked."""

    concurrency: PositiveInt = 20
    """How many jobs one worker process runs at once."""

    prefetch: PositiveInt | None = None
    """Deliveries that one worker process holds of each queue; None for twice the concurrency, and
    for 1 with a concurrency of 1."""

    consumer_timeout: _SomeSeconds | None = None
    """Until RabbitMQ takes back what is not settled; None: 1800 up to RabbitMQ 4.2, where this only
    says what the broker was configured to, and enough for the jobs from 4.3, where it is told."""

    shutdown_timeout: _SomeSeconds = 8.0
    """From SIGTERM to the end of the process."""

    max_jobs: PositiveInt | None = None
    """A worker process ends after so many jobs, or up to a tenth fewer; another takes its place."""

    max_memory: _SomeBytes | None = None
    """A worker process ends when its resident memory exceeds this: ``512MiB``, ``1GiB``."""

    max_age: _SomeSeconds | None = None
    """A worker process ends when it is so old, or up to a tenth younger."""

    blocked_after: Annotated[_Seconds, Field(ge=0, le=3600)] = 1.0
    """A handler that blocks the event loop for so long is named in the log; 0 for never."""

    events: bool = True
    """Tell what happens to jobs, for `App.status` and `App.watch`. It costs next to nothing while
    nobody listens."""

    store_url: SecretStr = SecretStr(DEFAULT_STORE)
    """Where the status of jobs is kept, and the outbox of an app that names no other place:
    ``sqlite:///file`` or ``postgresql://user:password@host/db``."""

    store_shared: bool = False
    """The SQLite of ``store_url`` is the only one of this app: all its processes run on this
    machine and use it. Then schedules fire by its rows alone, and what was missed is made up for.
    Of PostgreSQL that is known."""

    status_ttl: Annotated[_Seconds, Field(gt=0, le=LONGEST)] = 604_800.0
    """How long after its last event the status of a job is kept: seven days."""

    result_ttl: Annotated[_Seconds, Field(gt=0, le=LONGEST)] = 86_400.0
    """How long results are kept, of jobs that say ``keep_result=True``: a day."""

    max_result_size: Annotated[int, Field(ge=0, le=8_388_608)] = 262_144
    """The largest result that is kept, in bytes of JSON."""

    housekeeping: bool = True
    """Look after the store in this process: send what a crash left in the outbox, fire schedules,
    free what nobody holds any more. Some process has to."""

    inbox_ttl: Annotated[_Seconds, Field(ge=604_800, le=LONGEST)] = 604_800.0
    """How long it is remembered that a job with ``once=`` was done: seven days or more. A duplicate
    that comes later runs again."""

    silent_after: Annotated[_Seconds, Field(ge=60, le=LONGEST)] = 86_400.0
    """Seconds after which a job without a sign of life counts as lost and its message is sent
    again: a day. It applies to durable jobs and to the jobs that they wait for. Set it longer than
    any such job runs. Time in the queue, in the outbox, before a retry or for a limit does not
    count."""

    heartbeat_file: Path | None = None
    """Touched by the event loop every few seconds, for ``amqpjobs health``."""

    web_host: str = "127.0.0.1"
    """Where the web tier listens; beyond loopback only with a token."""

    web_port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """0 for one that is free."""

    web_token: SecretStr | None = None
    """What callers of the web tier send as ``Authorization: Bearer``; at least 16 characters."""

    web_max_body: PositiveInt | None = None
    """The largest body that the web tier takes; None for ``max_message_size``."""

    web_max_streams: PositiveInt = 1000
    """How many event streams one web process keeps open at once."""

    metrics_host: str = "127.0.0.1"
    """Where metrics are served to Prometheus. They name queues and jobs, and whoever gets there
    reads them."""

    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """The port; 0 for one that is free, None to serve none."""

    continue_traces: bool = False
    """A job's span is a child of the span that enqueued it; if not, it begins a trace of its own
    that links there."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(_in_small_letters)
    ] = "info"
    log_format: Literal["auto", "json", "console", "verbose"] = "auto"
    """``auto``: readable lines (``console``) on a terminal, else JSON. ``verbose``: readable lines
    with all keys, and tracebacks with all frames."""

    log_handler: Literal["auto", "always", "never"] = "auto"
    """``auto``: commands write the log to stdout unless a handler of the application's on the root
    logger writes to stdout or stderr; ``always``: in place of such a handler; ``never``: logging is
    the application's alone."""

    log_arguments: bool = False
    """Write the arguments of each job into its log line. They may hold personal data."""

    loop: Literal["auto", "asyncio", "uvloop"] = "auto"
    """The event loop of the command line; ``auto`` takes uvloop where it is installed."""

    @field_validator("management_url")
    @classmethod
    def _without_login(cls, url: str | None) -> str | None:
        # It would be shown with the other settings, and is of no use.
        if url is not None and "@" in url:
            raise ValueError("leave the user and the password out; those of AMQPJOBS_URL are used")
        return url

    @field_validator("web_token")
    @classmethod
    def _not_guessed(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < 16:
            raise ValueError(
                "it has less than 16 characters and could be guessed: openssl rand -hex 32"
            )
        return token

    @property
    def url_is_given(self) -> bool:
        """Whether anybody has said where RabbitMQ is; if not, there is only the default."""
        return "url" in self.model_fields_set

    def prefetch_for(self, concurrency: int) -> int:
        """Deliveries that a worker with this concurrency holds of each queue.

        Twice the concurrency, so that the next job is there when one ends. With a concurrency of 1
        that job would wait for the whole of another one while other workers may be idle, so it
        stays in the queue.
        """
        return self.prefetch or (1 if concurrency == 1 else 2 * concurrency)

    @property
    def broker_url(self) -> BrokerUrl:
        """The URL in parts.

        Raises:
            ConfigurationError: it is no URL of RabbitMQ.
        """
        return parse_broker_url(self.url.get_secret_value())

    @property
    def safe_url(self) -> str:
        """The URL without its password, for messages and logs."""
        return without_password(self.url.get_secret_value())

    def at(self, node: Node) -> "Settings":
        """These settings with a URL of that node alone; the same object if there is no other."""
        url = self.broker_url
        if len(url.nodes) == 1:
            return self
        return self.model_copy(update={"url": SecretStr(url.at(node))})


VARIABLES: Final = {
    field.validation_alias
    if isinstance(field.validation_alias, str)
    else f"AMQPJOBS_{name.upper()}"
    for name, field in Settings.model_fields.items()
}
"""The variables that are read, each by its first name."""


def load_settings(**flags: object) -> Settings:
    """Read the settings; what is given here goes before the environment.

    Raises:
        ConfigurationError: a value that cannot be used, with the variable's name, never its value.
    """
    secrets = _secrets_dir()
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(_secrets_dir=secrets, **given)  # type: ignore[call-arg,arg-type]
    except ValidationError as error:
        problems = "; ".join(
            f"{_variable(problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise ConfigurationError(f"settings that cannot be used: {problems}") from None


def secret_of(variable: str) -> SecretStr | None:
    """A secret whose name is known only when the program runs: from the environment, else from the
    file of that name among the secret files; None if it is nowhere, or empty.

    Raises:
        ConfigurationError: a file that cannot be read.
    """
    value = os.environ.get(variable)
    folder = _secrets_dir()
    if not value and folder:
        names = {path.name.upper(): path for path in Path(folder).iterdir()}
        if (path := names.get(variable.upper())) is not None:
            try:
                value = path.read_text().strip()
            except (OSError, ValueError) as error:
                raise ConfigurationError(f"{variable}: its file cannot be read") from error
    return SecretStr(value) if value else None


def _secrets_dir() -> str | None:
    folder = os.environ.get("AMQPJOBS_SECRETS_DIR")
    if folder and not Path(folder).is_dir():
        raise ConfigurationError("AMQPJOBS_SECRETS_DIR is not a directory")
    return folder


def _variable(location: tuple[int | str, ...]) -> str:
    name = str(location[0]) if location else "?"
    return name if name.isupper() else f"AMQPJOBS_{name.upper()}"
