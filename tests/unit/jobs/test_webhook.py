"""Signatures of webhooks: what passes, and that nothing else does."""

import hashlib
import hmac
from base64 import b64decode
from datetime import UTC, datetime

import pytest
import standardwebhooks
import stripe
from pydantic import BaseModel
from slack_sdk.signature import SignatureVerifier

from amqpjobs import App
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.webhook import (
    GITHUB,
    SIGNED,
    SLACK,
    STANDARD_WEBHOOKS,
    STRIPE,
    Proof,
    Signing,
    prove,
    sign,
)

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
    delivery = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
    assert found == Proof(f"delivery {delivery}", None, delivery)
    assert proof_of(headers, b"Hello, World?", (secret,), GITHUB) is None
    headers.pop("X-GitHub-Delivery")
    assert proof_of(headers, b"Hello, World!", (secret,), GITHUB) is None


SLASH = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmib"
    b"IGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)


def test_slacks_own_example_passes():
    """The values of its documentation, "Verifying requests from Slack"."""
    headers = {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    secret = (b"8f742231b10e8888abcd99yyyzzz85a5",)
    found = proof_of(headers, SLASH, secret, SLACK, now=1531420618.0)
    assert found is not None
    assert (found.delivery, found.until) == (None, 1531420918.0)
    assert proof_of(headers, SLASH + b"&a=b", secret, SLACK, now=1531420618.0) is None
    assert proof_of(headers, SLASH, secret, SLACK, now=1531420919.0) is None


def test_slacks_own_library_signs_the_same():
    """Whatever is in the body."""
    moment = str(round(NOW))
    signature = SignatureVerifier(SECRET.decode()).generate_signature(timestamp=moment, body=BODY)
    headers = {"X-Slack-Request-Timestamp": moment, "X-Slack-Signature": signature}
    assert proof_of(headers, signing=SLACK) is not None


STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STANDARD_KEY = b64decode(STANDARD_SECRET.removeprefix("whsec_"))


def test_the_example_of_standard_webhooks_passes():
    """The values of its specification; of several signatures one must fit."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body, now = b'{"test": 2432232314}', 1614265330.0
    found = proof_of(headers, body, (STANDARD_KEY,), STANDARD_WEBHOOKS, now)
    assert found is not None
    assert found.delivery == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    others = f"v1a,AAAA v1,AAAA {headers['webhook-signature']}"
    several = headers | {"webhook-signature": others}
    assert proof_of(several, body, (STANDARD_KEY,), STANDARD_WEBHOOKS, now) == found
    for change in (
        {"webhook-id": "msg_other"},
        {"webhook-id": ""},
        {"webhook-timestamp": "1614265331"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v1,!"},
        {"webhook-signature": headers["webhook-signature"].removeprefix("v1,")},
    ):
        changed = headers | change
        assert proof_of(changed, body, (STANDARD_KEY,), STANDARD_WEBHOOKS, now) is None
    assert proof_of(headers, body, (STANDARD_KEY,), STANDARD_WEBHOOKS, now + 301) is None


def test_the_library_of_standard_webhooks_signs_the_same():
    """And a point in an id could be another between its parts, so no id has one."""
    hook = standardwebhooks.Webhook(STANDARD_SECRET)
    moment = datetime.fromtimestamp(round(NOW), UTC)
    for message, passes in (("msg_1", True), ("msg_1.2", False)):
        headers = {
            "webhook-id": message,
            "webhook-timestamp": str(round(NOW)),
            "webhook-signature": hook.sign(message, moment, BODY.decode()),
        }
        found = proof_of(headers, BODY, (STANDARD_KEY,), STANDARD_WEBHOOKS)
        assert (found is not None) is passes


def stripes(secret=SECRET, moment="1800000000", body=BODY):
    signature = stripe.WebhookSignature._compute_signature(
        f"{moment}.{body.decode()}", secret.decode()
    )
    return f"t={moment},v1={signature}"


def test_what_stripes_own_library_signs_passes():
    """With more signatures beside it, of an older scheme or with another secret."""
    header = stripes()
    assert proof_of({"Stripe-Signature": header}, signing=STRIPE) is not None
    both = f"{stripes(b'another')},{header.partition(',')[2]},v0=00"
    assert proof_of({"Stripe-Signature": both}, signing=STRIPE) is not None
    stripe.WebhookSignature.verify_header(BODY.decode(), both, SECRET.decode(), tolerance=None)
    for wrong in (
        stripes(b"another"),
        header.replace("1800000000", "1800000001"),
        header.replace("v1=", "v0="),
        header + ",t=1800000000",
        header.partition(",")[2],
        "",
    ):
        assert proof_of({"Stripe-Signature": wrong}, signing=STRIPE) is None
    assert proof_of({"Stripe-Signature": header}, signing=STRIPE, now=NOW + 301) is None
    assert proof_of({"Stripe-Signature": header}, BODY + b" ", signing=STRIPE) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"header": "X Signature"}, "cannot be the name of a header"),
        ({"timestamp": "X-Time\n"}, "cannot be the name of a header"),
        ({"event": ""}, "cannot be the name of a header"),
        ({"signed": "{timestamp}"}, "lacks {body}"),
        ({"signed": "{body}"}, "lacks {timestamp}"),
        ({"signed": "{id}.{timestamp}.{body}"}, "give delivery"),
        ({"timestamp": None, "delivery": "X-Id", "signed": "{timestamp}{body}"}, "give timestamp"),
        ({"encoding": "base32"}, "'hex' or 'base64'"),
    ],
)
def test_what_could_prove_nothing_is_refused(options, words):
    """When it is declared."""
    with pytest.raises(ConfigurationError) as caught:
        Signing(**options)
    assert words in str(caught.value)


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
    assert registry_of(app).hooks == {"git-hub": hook}
    assert hook.job is definition_of(app.publish)
    assert hook.variable == "AMQPJOBS_HOOK_GIT_HUB_SECRET"


class Pushed(BaseModel):
    ref: str


def test_a_hook_whose_requests_cannot_fit_the_job_is_refused():
    """When it is declared; also where the job's annotations are known only later."""
    app = App("hooked")

    @app.job(queue="q")
    async def nothing() -> None: ...

    @app.job(queue="q")
    async def number(n: int) -> None: ...

    @app.job(queue="q")
    async def pushed(event: str, push: Pushed) -> None: ...

    @app.job(queue="q")
    async def two(a: str, b: str) -> None: ...

    @app.job(queue="q")
    async def later(event: str, push: "Unknown") -> None: ...  # noqa: F821

    def refused(job, words, **options):
        with pytest.raises(ConfigurationError) as caught:
            app.hook(f"hook-{len(words)}", job=job, **options)
        assert words in str(caught.value)

    refused(nothing, "the job takes no arguments")
    refused(number, "'n' takes a JSON integer", signing=GITHUB)
    refused(pushed, "'a b'", headers={"event": "a b"})
    refused(pushed, "no parameter 'events'; it has: event, push", headers={"events": "X-Event"})
    refused(two, "besides those of headers", headers={"a": "X-A", "b": "X-B"})
    refused(pushed, "which 'push' does not take", headers={"push": "X-B"})
    refused(pushed, "does not say where the event is named", events=["push"])
    app.hook("number", job=number)  # ours may send a number
    good = app.hook("pushed", job=pushed, signing=GITHUB, headers={"event": "X-GitHub-Event"})
    assert good.body == "push"
    app.hook("later", job=later, headers={"event": "X-Event"})
    with pytest.raises(ConfigurationError, match="Unknown"):
        app.check()


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
