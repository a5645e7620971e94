"""A kill with what the check after it found, and how a broken promise is reported."""

from dataclasses import dataclass


class Broken(AssertionError):
    """The node broke one of its promises."""


def expect(holds: object, what: str) -> None:
    """Raise Broken with the text `what` unless `holds`."""
    if not holds:
        raise Broken(what)


@dataclass(slots=True)
class Kill:
    """One kill and what the check after it found."""

    number: int
    moment: str
    after_s: float
    rows: int = 0
    new_rows: int = 0
    lines: int = 0
    unacknowledged: int = 0
    wal_bytes: int = 0
    note: str = ""
