"""RabbitMQ's model: virtual host, exchanges, queues, channels, consumers."""
