"""What amqpjobs tells about itself: logs now; the only room that may import opentelemetry."""
