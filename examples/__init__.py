"""Programs that show what amqpjobs does; the tests run them."""
