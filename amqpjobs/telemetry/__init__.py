"""What amqpjobs tells about itself: logs and spans; the only room that may import opentelemetry."""
