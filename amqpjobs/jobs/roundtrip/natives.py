"""The types that are no text in a format that can hold them. Changes when another one is."""

from typing import Final

NATIVES: Final = frozenset({"bytes"})
"""What stays as it is, unless a format says otherwise, as pydantic's schemas call it."""
