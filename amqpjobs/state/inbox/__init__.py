"""Jobs that are done once: their effect, and that they were done, in one transaction."""
