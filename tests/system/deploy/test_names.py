"""Names for Kubernetes: as people expect where that is possible, and never the same for two."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from amqpjobs.cli.deploy.names import LONGEST, LONGEST_PREFIX, name_of, prefix_of

LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
"""RFC 1035, as a Service asks for: a letter first."""

names = st.text(min_size=1, max_size=100)


@pytest.mark.parametrize(
    ("queue", "name"),
    [
        ("thumbnails", "photos-worker-thumbnails"),
        ("a-b", "photos-worker-a-b"),
        ("Photos_HIGH.x", "photos-worker-photos-high-x-ce754263"),
        ("photos-high-x", "photos-worker-photos-high-x"),
        ("x" * 60, f"photos-worker-{'x' * 29}-38afe844"),
        ("写真", "photos-worker-d3afc89a"),
    ],
)
def test_a_name_is_the_queues_own_where_kubernetes_takes_it(queue: str, name: str) -> None:
    """And the same in every release: other people's patches and dashboards are about it."""
    assert name_of("photos", "worker", queue) == name


@pytest.mark.parametrize(
    ("app", "prefix"),
    [
        ("photos", "photos"),
        ("Photo Album", "photo-album"),
        ("7up", "app-7up"),
        ("a" * 40, "a" * 24),
    ],
)
def test_the_names_of_an_app_begin_with_its_own(app: str, prefix: str) -> None:
    """As far as a Service may be called so."""
    assert prefix_of(app) == prefix


@given(names, names)
@example("-", "-x")
@example("a" * 24 + "-b", "ẞ")
def test_every_name_is_one_that_kubernetes_takes(app: str, queue: str) -> None:
    """Whatever people call apps and queues."""
    prefix = prefix_of(app)
    assert LABEL.fullmatch(prefix)
    assert len(prefix) <= LONGEST_PREFIX + len("app-")
    name = name_of(prefix, "worker", queue)
    assert LABEL.fullmatch(name)
    assert len(name) <= LONGEST


@given(st.lists(names, min_size=2, unique=True))
@example(["a.b", "a-b", "a_b", "A-b", "a--b"])
@example(["x" * 50, "x" * 51, "x" * 52])
def test_two_queues_have_two_names(queues: list[str]) -> None:
    """One Deployment for both would consume one of them only."""
    assert len({name_of("shop", "worker", queue) for queue in queues}) == len(queues)
