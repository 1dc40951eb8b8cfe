"""``python -m amqpjobs`` is the same program as ``amqpjobs``."""

from amqpjobs.cli.main import main

if __name__ == "__main__":
    main()
