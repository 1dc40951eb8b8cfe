"""RabbitMQ: the only room that imports aio-pika, aiormq or pamqp."""
