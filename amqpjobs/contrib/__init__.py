"""Ready-made middleware, one a file. Nothing here is imported unless a program names it."""
