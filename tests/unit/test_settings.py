"""Settings from flags, environment, secret files and defaults; and secrets stay secret."""

import os
from datetime import timedelta

import pytest

from amqpjobs.errors import ConfigurationError
from amqpjobs.settings import DEFAULT_URL, Settings, bytes_of, load_settings, seconds_of

ALIASES = ["AMQPJOBS_URL", "AMQP_URL", "RABBITMQ_URL", "CLOUDAMQP_URL"]


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in list(os.environ):
        if name.startswith("AMQPJOBS_") or name in ALIASES:
            monkeypatch.delenv(name)


@pytest.fixture
def secrets(monkeypatch, tmp_path):
    monkeypatch.setenv("AMQPJOBS_SECRETS_DIR", str(tmp_path))
    return tmp_path


def url(settings):
    return settings.url.get_secret_value()


def test_without_anything_it_is_the_broker_of_this_machine():
    """As RabbitMQ is after its installation."""
    settings = load_settings()
    assert url(settings) == DEFAULT_URL
    assert (settings.concurrency, settings.shutdown_timeout, settings.heartbeat) == (20, 8.0, 15)
    assert settings.prefetch is None


@pytest.mark.parametrize("name", ALIASES)
def test_the_url_has_the_names_that_platforms_give_it(name, monkeypatch):
    """So that an add-on works without configuration."""
    monkeypatch.setenv(name, "amqp://there/")
    assert url(load_settings()) == "amqp://there/"


def test_our_own_name_for_the_url_goes_before_those_of_platforms(monkeypatch):
    """In the order in which the documentation names them."""
    for i, name in reversed(list(enumerate(ALIASES))):
        monkeypatch.setenv(name, f"amqp://host{i}/")
        assert url(load_settings()) == f"amqp://host{i}/"


@pytest.mark.parametrize("name", ALIASES)
def test_a_flag_goes_before_the_environment(name, monkeypatch):
    """Whatever the variable is called."""
    monkeypatch.setenv(name, "amqp://environment/")
    monkeypatch.setenv("AMQPJOBS_CONCURRENCY", "3")
    monkeypatch.setenv("AMQPJOBS_DECLARE", "true")
    settings = load_settings(url="amqp://flag/", concurrency=5, declare_topology=False)
    assert (url(settings), settings.concurrency, settings.declare_topology) == (
        "amqp://flag/", 5, False
    )  # fmt: skip


def test_a_flag_that_was_not_given_leaves_the_environment(monkeypatch):
    """None is what the command line has for it."""
    monkeypatch.setenv("AMQPJOBS_CONCURRENCY", "3")
    assert load_settings(concurrency=None).concurrency == 3


@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_a_secret_file_goes_before_the_default_and_behind_the_environment(
    case, secrets, monkeypatch
):
    """One file a setting; the newline that editors add is no part of it."""
    (secrets / case("AMQPJOBS_URL")).write_text("amqp://file/\n")
    (secrets / case("AMQPJOBS_HEARTBEAT")).write_text("33\n")
    assert (url(load_settings()), load_settings().heartbeat) == ("amqp://file/", 33)
    monkeypatch.setenv("AMQPJOBS_URL", "amqp://environment/")
    monkeypatch.setenv("AMQPJOBS_HEARTBEAT", "44")
    assert (url(load_settings()), load_settings().heartbeat) == ("amqp://environment/", 44)


def test_a_secrets_folder_that_is_a_file_is_an_error_that_says_so(secrets, monkeypatch):
    """Not a traceback out of a library."""
    file = secrets / "file"
    file.write_text("x")
    monkeypatch.setenv("AMQPJOBS_SECRETS_DIR", str(file))
    with pytest.raises(ConfigurationError, match="directory"):
        load_settings()


def test_a_secrets_folder_that_is_not_there_is_an_error(secrets, monkeypatch):
    """A typing mistake would otherwise mean the guest of this machine, without a word."""
    monkeypatch.setenv("AMQPJOBS_SECRETS_DIR", str(secrets / "elsewhere"))
    with pytest.raises(ConfigurationError, match="directory"):
        load_settings()


def test_variables_of_others_are_left_alone(monkeypatch):
    """A prefix is no namespace of ours alone."""
    monkeypatch.setenv("AMQPJOBS_FROM_THE_FUTURE", "1")
    monkeypatch.setenv("CONCURRENCY", "99")
    assert load_settings().concurrency == 20


def test_an_empty_variable_is_none():
    """As compose files leave them."""
    os.environ["AMQPJOBS_CONCURRENCY"] = ""
    try:
        assert load_settings().concurrency == 20
    finally:
        del os.environ["AMQPJOBS_CONCURRENCY"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AMQPJOBS_CONCURRENCY", "0"), ("AMQPJOBS_CONCURRENCY", "many"),
        ("AMQPJOBS_PREFETCH", "-1"), ("AMQPJOBS_HEARTBEAT", "1"),
        ("AMQPJOBS_PUBLISH_TIMEOUT", "0"), ("AMQPJOBS_LOG_LEVEL", "loud"),
        ("AMQPJOBS_DECLARE", "perhaps"), ("AMQPJOBS_MAX_MESSAGE_SIZE", "0"),
        ("AMQPJOBS_LOG_FORMAT", "xml"), ("AMQPJOBS_LOOP", "trio"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_told_by_its_variable(variable, value, monkeypatch):
    """And the other problems with it."""
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("AMQPJOBS_SHUTDOWN_TIMEOUT", "-3")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert f"{variable}: " in str(caught.value)
    assert "AMQPJOBS_SHUTDOWN_TIMEOUT: " in str(caught.value)


def test_a_level_may_be_written_in_capitals(monkeypatch):
    """As Python's logging writes it."""
    monkeypatch.setenv("AMQPJOBS_LOG_LEVEL", "DEBUG")
    assert load_settings().log_level == "debug"


def test_an_error_does_not_show_the_value(monkeypatch):
    """A password may have got into the wrong variable; and no cause carries it on."""
    monkeypatch.setenv("AMQPJOBS_CONNECT_TIMEOUT", "amqp://u:hunter2@h/")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("amqp://user:hunter2@host:5672/vhost", "amqp://user@host:5672/vhost"),
        ("amqp://host/", "amqp://host/"),
        ("amqp://user@host/", "amqp://user@host/"),
        ("amqps://user:hunter2@[::1]:5671/%2f", "amqps://user@[::1]:5671/%2f"),
        ("amqp://user:hunter2@host/?password=hunter2#hunter2", "amqp://user@host/"),
        ("amqp://user:p%40hunter2@host/v", "amqp://user@host/v"),
        ("amqp://:hunter2@host/v", "amqp://host/v"),
    ],
)
def test_the_url_for_messages_has_no_password(given, safe):
    """All else helps to see what is wrong."""
    assert load_settings(url=given).safe_url == safe


@pytest.mark.parametrize(
    "given",
    [
        "amqp://user:12/hunter2@host/v", "amqp://user:12#hunter2@host/v",
        "amqp://user:12?hunter2@host/v", "amqp://user:a@hunter2@host/", "amqp://user:a:hunter2@host",
        "user:hunter2@host", "amqp:/user:hunter2@host", "//user:hunter2@host", "amqp://[user:hunter2@host",
        "amqp://user:hunter2@", "user:hunter2",
        "amqp://user:hunter2",
    ],
)  # fmt: skip
def test_a_url_that_is_none_shows_no_password_either(given):
    """A password with `/`, `#`, `?` or `@` in it that was not quoted is the usual mistake."""
    assert "hunter2" not in load_settings(url=given).safe_url


def test_no_form_of_the_settings_shows_a_secret():
    """Their repr is in tracebacks, and their JSON in the output of commands."""
    settings = load_settings(url="amqp://user:hunter2@host/")
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert "hunter2" not in shown


def test_a_password_in_the_url_of_the_management_api_is_not_shown_either():
    """It is of no use there: the login is the broker's. But people write it."""
    try:
        settings = load_settings(management_url="http://user:hunter2@host:15672")
    except ConfigurationError as error:
        assert "hunter2" not in str(error)
        assert "AMQPJOBS_MANAGEMENT_URL" in str(error)
    else:
        assert "hunter2" not in f"{settings!r} {settings.model_dump_json()}"


def test_every_setting_has_a_variable_and_a_default():
    """A worker needs RabbitMQ's address and nothing else."""
    assert [name for name, info in Settings.model_fields.items() if info.is_required()] == []


def test_the_watch_on_the_event_loop_can_be_switched_off():
    """One second, or another number, or never."""
    assert load_settings().blocked_after == 1.0
    assert load_settings(blocked_after=0).blocked_after == 0
    with pytest.raises(ConfigurationError, match="AMQPJOBS_BLOCKED_AFTER"):
        load_settings(blocked_after=-1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0), ("1.5", 1.5), (" 7 ", 7.0), ("0", 0.0), ("90s", 90.0), ("500ms", 0.5),
        ("5m", 300.0), ("2 min", 120.0), ("1h", 3600.0), ("1h30m", 5400.0), ("1 h 30 min", 5400.0),
        ("7d", 604_800.0), ("1w", 604_800.0), ("0.5h", 1800.0), ("-1", -1.0), ("10sec", 10.0),
    ],
)  # fmt: skip
def test_a_text_that_is_a_duration(text: str, seconds: float) -> None:
    """As settings and the command line take it; the bounds are theirs."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1y", "1h30", "-1h", "1 month", "1h-5m", "PT1H", "1:30"])
def test_a_text_that_is_none(text: str) -> None:
    """Nothing is guessed."""
    assert seconds_of(text) is None


DURATIONS = [
    "heartbeat", "connect_timeout", "reconnect_limit", "wait", "publish_timeout", "request_timeout",
    "consumer_timeout", "shutdown_timeout", "blocked_after", "status_ttl", "result_ttl",
    "no_worker_timeout",
    "max_age", "silent_after",
]  # fmt: skip


def test_every_duration_may_have_a_unit(monkeypatch):
    """In variables; no other setting is a number with a point."""
    numbers = [k for k, v in Settings.model_fields.items() if "float" in str(v.annotation)]
    assert set(numbers) | {"heartbeat"} == {*DURATIONS, "inbox_ttl"}
    assert load_settings(inbox_ttl="8d").inbox_ttl == 691_200
    for name in DURATIONS:
        monkeypatch.setenv(f"AMQPJOBS_{name.upper()}", "1m30s")
    assert {getattr(load_settings(), name) for name in DURATIONS} == {90}


def test_a_program_may_give_a_timedelta():
    """As to every other timeout."""
    settings = Settings(shutdown_timeout=timedelta(minutes=1), heartbeat=timedelta(seconds=7))
    assert (settings.shutdown_timeout, settings.heartbeat) == (60.0, 7)


@pytest.mark.parametrize("value", ["1 month", "1h30", "soon", "hunter2"])
def test_what_is_no_duration_says_what_one_is(value, monkeypatch):
    """And does not show the value."""
    monkeypatch.setenv("AMQPJOBS_SHUTDOWN_TIMEOUT", value)
    with pytest.raises(ConfigurationError, match="90s, 5m, 1h30m or 7d") as caught:
        load_settings()
    assert value not in str(caught.value).replace("1h30m", "")


def test_bounds_hold_with_a_unit(monkeypatch):
    """A heartbeat of half a second is too short, as it is without."""
    monkeypatch.setenv("AMQPJOBS_HEARTBEAT", "1s")
    with pytest.raises(ConfigurationError, match="greater than or equal to 2"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 2**20), ("512MiB", 2**29), ("512Mi", 2**29), ("1GiB", 2**30),
        ("500MB", 500_000_000), ("500M", 500_000_000), ("2kb", 2000), ("7B", 7), ("1TiB", 2**40),
        ("1.5 gib", 3 * 2**29),
    ],
)  # fmt: skip
def test_a_size_in_the_forms_that_people_and_kubernetes_write(text: str, size: int) -> None:
    """``i`` is for powers of 1024."""
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "much", "1 month", "-1GiB", "1GiBB", "1Gib ps", "1e9"])
def test_a_text_that_is_no_size(text: str, monkeypatch) -> None:
    """Said by the setting, too."""
    assert bytes_of(text) is None
    monkeypatch.setenv("AMQPJOBS_MAX_MEMORY", text or "x")
    with pytest.raises(ConfigurationError, match="AMQPJOBS_MAX_MEMORY.*512MiB, 1GiB"):
        load_settings()
