"""Keys of rows: whatever text a user has, in 255 bytes. Changes when a key may be longer."""

from hashlib import sha256

LONGEST = 255
"""Bytes, of the columns that hold keys."""


def key_of(text: str) -> str:
    """The text itself, or if it is too long its beginning and a hash of the whole."""
    if len(text.encode()) <= LONGEST and "\0" not in text:
        return text
    digest = sha256(text.encode()).hexdigest()
    start = text.replace("\0", "").encode()[: LONGEST - len(digest) - 1].decode(errors="ignore")
    return f"{start}#{digest}"
