"""RabbitMQ, the broker: the only package that knows AMQP 0-9-1, aiormq and aio-pika."""
