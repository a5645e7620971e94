"""Bytes from outside that mean nothing to us."""

from typing import Final

import msgspec

BAD_JSON: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What msgspec raises for bad JSON: syntax or types; UTF-8; too deep nesting."""


class Unreadable(ValueError):
    """A frame or an answer that cannot be read; the message says what was expected and shows the beginning of it."""
