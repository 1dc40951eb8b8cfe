"""The status of each job: recorded from events, read, and watched.

The store needs the extra ``sql``, and is imported when it is used.
"""
