"""Ready-made middleware, one a file, and Celery's messages. Programs import it by name."""
