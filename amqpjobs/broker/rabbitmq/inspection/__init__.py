"""Looking into queues and messages without taking anything out."""
