"""An AMQP 0-9-1 broker inside the process, for development and tests: in memory, loopback only."""
