"""What is known of each job: recorded from the events of its life, asked for, and watched.

``amqpjobs.status.values`` has the status itself, and imports nothing; the rest needs the extra
``sql``.
"""
