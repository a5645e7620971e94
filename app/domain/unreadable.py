"""Bytes from outside that mean nothing to us."""


class Unreadable(ValueError):
    """A frame or an answer that cannot be read; the message says what was expected and shows the beginning of it."""
