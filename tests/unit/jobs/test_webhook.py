"""Signatures of webhooks: what passes, and that nothing else does."""

import hashlib
import hmac

import pytest

from amqpjobs import App
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.webhook import GITHUB, SIGNED, Proof, Signing, prove, sign

NOW = 1_800_000_000.0
SECRET = b"a secret of some length"
BODY = b'{"id": 7}'


def proof_of(headers, body=BODY, secrets=(SECRET,), signing=SIGNED, now=NOW):
    return prove(signing, headers.get, body, secrets, now)


def signed(body=BODY, secret=SECRET, moment="1800000000"):
    digest = sign(secret, moment.encode() + b"." + body).hex()
    return {"X-Amqpjobs-Timestamp": moment, "X-Amqpjobs-Signature": f"sha256={digest}"}


def test_a_signed_request_passes():
    """The signature is an HMAC-SHA256 over the time, a point, and the body."""
    headers = signed()
    digest = hmac.new(SECRET, b"1800000000." + BODY, hashlib.sha256).hexdigest()
    assert headers["X-Amqpjobs-Signature"] == f"sha256={digest}"
    assert proof_of(headers) == Proof(f"signature {digest}", NOW + 300)


def test_githubs_own_example_passes():
    """The values of its documentation, "Testing the webhook payload validation"."""
    headers = {
        "X-Hub-Signature-256": "sha256="
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    }
    secret = b"It's a Secret to Everybody"
    found = proof_of(headers, b"Hello, World!", (secret,), GITHUB)
    assert found == Proof("delivery 72d3162e-cc78-11e3-81ab-4c9367dc0958", None)
    assert proof_of(headers, b"Hello, World?", (secret,), GITHUB) is None
    headers.pop("X-GitHub-Delivery")
    assert proof_of(headers, b"Hello, World!", (secret,), GITHUB) is None


def test_any_of_several_secrets_passes():
    """While a secret is changed, both are good."""
    old, new = b"the old one", b"the new one"
    for secret in (old, new):
        assert proof_of(signed(secret=secret), secrets=(new, old)) is not None
    assert proof_of(signed(secret=old), secrets=(new,)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"X-Amqpjobs-Signature": None},
        {"X-Amqpjobs-Timestamp": None},
        {"X-Amqpjobs-Timestamp": "1800000001"},
        {"X-Amqpjobs-Timestamp": " 1800000000"},
        {"X-Amqpjobs-Timestamp": "1800000000.0"},
        {"X-Amqpjobs-Timestamp": "1.8e9"},
        {"X-Amqpjobs-Timestamp": "\u0661\u0668"},
        {"X-Amqpjobs-Timestamp": "9" * 400},
        {"X-Amqpjobs-Timestamp": ""},
        {"X-Amqpjobs-Signature": ""},
        {"X-Amqpjobs-Signature": "sha256="},
        {"X-Amqpjobs-Signature": "sha256=" + "0" * 64},
        {"X-Amqpjobs-Signature": "sha256=" + "\u0661" * 64},
        {"X-Amqpjobs-Signature": "sha1=" + "0" * 40},
    ],
)
def test_what_was_changed_does_not_pass(change):
    """Missing, malformed, or not what was signed."""
    headers = {k: v for k, v in (signed() | change).items() if v is not None}
    assert proof_of(headers) is None


def test_a_changed_body_does_not_pass():
    """Not even by a space."""
    assert proof_of(signed(), BODY + b" ") is None


def test_the_signature_without_its_prefix_does_not_pass():
    """What is not written as agreed is not looked at."""
    headers = signed()
    headers["X-Amqpjobs-Signature"] = headers["X-Amqpjobs-Signature"].removeprefix("sha256=")
    assert proof_of(headers) is None


@pytest.mark.parametrize(
    ("away", "passes"), [(300, True), (301, False), (-300, True), (-301, False)]
)
def test_the_time_is_within_the_window(away, passes):
    """In the past, and in the future of a clock that is wrong."""
    moment = str(round(NOW) + away)
    assert (proof_of(signed(moment=moment)) is not None) is passes


def test_the_window_is_the_hooks_own():
    """For senders that are slow."""
    signing = Signing(window=1000)
    moment = str(round(NOW) - 900)
    assert proof_of(signed(moment=moment), signing=signing) is not None


def test_letters_of_another_size_are_the_same_proof():
    """Else a replay would pass by writing the same digits differently."""
    headers = signed()
    value = headers["X-Amqpjobs-Signature"].removeprefix("sha256=")
    upper = headers | {"X-Amqpjobs-Signature": "sha256=" + value.upper()}
    assert proof_of(upper) == proof_of(headers)


def test_a_signing_tells_a_request_from_its_replay():
    """By time or by id; with neither there is nothing to tell it by."""
    with pytest.raises(ConfigurationError, match="replay"):
        Signing(timestamp=None)
    with pytest.raises(ConfigurationError, match="replay"):
        Signing(delivery="X-Id")
    with pytest.raises(ConfigurationError, match="window"):
        Signing(window=0)


@pytest.fixture
def app():
    app = App("hooked")

    @app.job(queue="q")
    async def publish(event: dict[str, int]) -> None: ...

    app.publish = publish
    return app


def test_a_hook_is_declared_beside_the_job(app):
    """The job stays as it is; the secret's name follows from the hook's."""
    hook = app.hook("git-hub", job=app.publish, signing=GITHUB)
    assert app.hooks == {"git-hub": hook}
    assert hook.job is app.publish.definition
    assert hook.variable == "AMQPJOBS_HOOK_GIT_HUB_SECRET"


@pytest.mark.parametrize("name", ["", "GitHub", "a/b", "-a", "a b", "a" * 65])
def test_a_name_that_cannot_be_in_a_path_is_refused(app, name):
    """When the module loads."""
    with pytest.raises(ConfigurationError, match="small letters"):
        app.hook(name, job=app.publish)


def test_two_hooks_do_not_share_a_secret(app):
    """Each sender has its own."""
    app.hook("git-hub", job=app.publish)
    with pytest.raises(ConfigurationError, match="another name"):
        app.hook("git_hub", job=app.publish)
