"""A package of jobs, for `test_router`."""
