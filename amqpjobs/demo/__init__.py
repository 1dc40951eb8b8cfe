"""The photo album: an app, its page, and a show of both that needs no RabbitMQ and no set-up.

It needs the extra ``demo``.
"""
