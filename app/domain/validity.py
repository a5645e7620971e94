"""Whether a value that was obtained at some time still counts."""

from typing import TypeGuard


def is_fresh(since_ms: int | None, now_ms: int, for_ms: int) -> TypeGuard[int]:
    """Whether `since_ms` is less than `for_ms` ago; False for None.

    False also when `since_ms` lies in the future: the clock was set back, and the value would count for too long.
    """
    return since_ms is not None and 0 <= now_ms - since_ms < for_ms


def is_valid(made_ms: int, now_ms: int, until_ms: int) -> bool:
    """Whether a value made at `made_ms` and valid until `until_ms` counts now; False if the clock was set back."""
    return made_ms <= now_ms < until_ms
