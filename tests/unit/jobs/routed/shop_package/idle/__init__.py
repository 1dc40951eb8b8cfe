raise AssertionError("it has no jobs")
