1 / 0  # noqa: B018 - an error of the user's own
