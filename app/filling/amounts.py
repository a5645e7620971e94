"""Amounts of bytes and of time as people read them: rounded to two digits, in the unit that fits."""

from typing import Final

_BYTE_UNITS: Final = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86_400


def of_bytes(count: int) -> str:
    """Format a number of bytes, for example 51 GB or 2.1 GB, in decimal units, as disks are sold."""
    for size, unit in _BYTE_UNITS:
        if count >= size:
            whole = (count + size // 2) // size
            tenths = (count * 10 + size // 2) // size
            return f"{whole} {unit}" if tenths >= 100 else f"{tenths // 10}.{tenths % 10} {unit}"
    return f"{count} bytes"


def of_seconds(count: int) -> str:
    """Format a number of seconds, for example 40 s, 12 min, 3 h 20 min or 2 days 5 h."""
    if count < MINUTE_S:
        return f"{count} s"
    minutes = -(-count // MINUTE_S)
    if count < HOUR_S:
        return f"{minutes} min"
    if count < DAY_S:
        hours, rest = divmod(minutes, 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, rest = divmod(-(-count // HOUR_S), 24)
    named = "1 day" if days == 1 else f"{days} days"
    return f"{named} {rest} h" if rest else named
