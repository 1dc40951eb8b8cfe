"""What a plan refuses, with what to write instead."""

import pytest

from amqpjobs import App
from amqpjobs.cli.deploy import Timed, plan_of
from amqpjobs.errors import ConfigurationError, UnknownJob
from tests.support.deployed import IMAGE, shop_app, shop_plan


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"namespace": "Shop_1"}, "--namespace 'Shop_1' is no namespace"),
        ({"timed": [Timed("run", "nightly", "15 3")]}, "write five fields"),
        ({"timed": [Timed("run", "nightly", "15 3 * * ;")]}, "is no schedule"),
        ({"timed": [Timed("run", "nightly", "@reboot")]}, "is no schedule"),
        ({"timed": [Timed("enqueue", "send_receipt", "@daily")]}, "the arguments do not fit"),
        ({"timed": [Timed("enqueue", "nightly", "@daily", "{")]}, "the arguments do not fit"),
        ({"timed": [Timed("run", "nightly", "@daily")] * 2}, "has a schedule already"),
        ({"environment": {"SMTP_PASSWORD": "x"}}, "looks like a secret"),
        ({"environment": {"AMQPJOBS_STORE_URL": "x"}}, "looks like a secret"),
        ({"environment": {"OTEL_EXPORTER_OTLP_HEADERS": "x"}}, "looks like a secret"),
        ({"environment": {"A-B": "x"}}, "no name of a variable"),
        ({"environment": {"A": "x\ny"}}, "a value of one line"),
        ({"environment": {"A": '"x"'}}, "without quotes"),
        ({"claims": {"album": "album"}}, "an absolute path"),
        ({"claims": {"tmp": "/album"}}, "a volume of every pod"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_here(
    options: dict[str, object], said: str
) -> None:
    """Before a file is written, and not by a pod at night."""
    with pytest.raises(ConfigurationError, match=said):
        shop_plan(**options)


@pytest.mark.parametrize("image", ["", "a b", "-x", "a\nb", "$(rm)"])
def test_an_image_that_is_none_is_refused(image: str) -> None:
    """With an example of one."""
    with pytest.raises(ConfigurationError, match="registry.example/photos"):
        plan_of(shop_app(), "shop:app", image)


def test_an_app_without_jobs_is_refused() -> None:
    """There is nothing to deploy; most likely it is the wrong app."""
    with pytest.raises(ConfigurationError, match="no jobs"):
        plan_of(App("empty"), "shop:app", IMAGE)


def test_a_job_that_is_not_there_is_refused() -> None:
    """And those that are there are named."""
    with pytest.raises(UnknownJob, match="nightly"):
        shop_plan(timed=[Timed("run", "nihgtly", "@daily")])


@pytest.mark.parametrize(
    ("image", "repository", "tag", "digest"),
    [
        ("shop", "shop", None, None),
        ("reg:5000/a/shop", "reg:5000/a/shop", None, None),
        ("reg:5000/shop:1.0", "reg:5000/shop", "1.0", None),
        ("shop@sha256:ab", "shop", None, "sha256:ab"),
        ("reg/shop:1.0@sha256:ab", "reg/shop", "1.0", "sha256:ab"),
    ],
)
def test_an_image_is_known_by_its_parts(
    image: str, repository: str, tag: str | None, digest: str | None
) -> None:
    """kustomize replaces them one by one."""
    plan = plan_of(shop_app(), "shop:app", image)
    assert (plan.repository, plan.tag, plan.digest) == (repository, tag, digest)
