"""`amqpjobs consume --processes`: worker processes and their supervisor."""
