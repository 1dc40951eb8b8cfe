"""Errors of ours as answers over HTTP."""

from amqpjobs.errors import NotPermitted
from amqpjobs.web.problems import problem_of


def test_a_missing_permission_is_no_business_of_the_client() -> None:
    """It may be there when they come again; which user lacks it, the log says."""
    error = NotPermitted("user 'shop-publisher' lacks ...", permission="write", resource="q")
    problem = problem_of(error)
    assert (problem.status, problem.reason) == (503, "not-permitted")
    assert "shop" not in str(problem)
    assert "Retry-After" in problem.headers
