"""How long a cache may hold an answer."""

import re


def held_s(cache_control: str) -> int:
    """The seconds of a Cache-Control header: fresh (max-age), and served while updating (stale-while-revalidate)."""
    return sum(map(int, re.findall(r"(?:max-age|stale-while-revalidate)=(\d+)", cache_control)))
