"""What a process says that cannot start: a part of the composition that needs no store."""


class CannotStart(Exception):
    """The node cannot start with these settings on this machine; the message says what to do."""
