"""Unique names. Changes when they are made otherwise."""

import os
from base64 import urlsafe_b64encode


def unique(octets: int) -> str:
    """Text of so many random bytes, as `secrets.token_urlsafe` makes it.

    That module would import hashes and more, which takes longer than starting a broker.
    """
    return urlsafe_b64encode(os.urandom(octets)).rstrip(b"=").decode()
