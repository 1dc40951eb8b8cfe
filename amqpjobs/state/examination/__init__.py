"""Looks at what an app remembers, for `amqpjobs doctor`; each finding comes with its fix."""
