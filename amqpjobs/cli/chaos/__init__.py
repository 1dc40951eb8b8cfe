"""`amqpjobs chaos`: workers under faults, and what is left."""
