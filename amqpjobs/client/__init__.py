"""From a call to a confirmed message, from a request to its reply; work on dead letters."""
