"""What is known of each job: recorded from the events of its life, asked for, and watched.

The store needs the extra ``sql``, and is imported when it is used.
"""
