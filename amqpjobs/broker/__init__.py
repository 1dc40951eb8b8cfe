"""AMQP as bytes, RabbitMQ as a service, and a broker in the process."""
