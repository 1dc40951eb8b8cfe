"""``amqpjobs doctor``: checks a deployment; each finding comes with its fix."""
