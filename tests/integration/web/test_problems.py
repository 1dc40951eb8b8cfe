"""Errors of ours as answers over HTTP."""

import pytest

from amqpjobs import App
from amqpjobs.client.client import registry_of
from amqpjobs.errors import DecodeError, NotPermitted
from amqpjobs.web.problems import invalid_body, problem_of


def test_a_missing_permission_is_no_business_of_the_client() -> None:
    """It may be there when they come again; which user lacks it, the log says."""
    error = NotPermitted("user 'shop-publisher' lacks ...", permission="write", resource="q")
    problem = problem_of(error)
    assert (problem.status, problem.reason) == (503, "not-permitted")
    assert "shop" not in str(problem)
    assert "Retry-After" in problem.headers


def test_a_body_that_does_not_fit_is_told_without_its_keys() -> None:
    """The keys of dicts are data; the names of parameters and fields help."""
    app = App("a")

    @app.job(queue="q", name="job")
    async def job(ages: dict[str, int], name: str) -> None: ...

    with pytest.raises(DecodeError) as caught:
        registry_of(app).find("job").payload.load(b'{"ages": {"ada@example.org": "x"}, "name": 1}')
    errors = invalid_body(caught.value).more["errors"]
    assert [each["where"] for each in errors] == ["ages.[key]", "name"]
    assert "ada@" not in str(errors)
