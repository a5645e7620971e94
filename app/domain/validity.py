"""For how long something is true: the one way to ask whether what was learnt at a time still counts."""

from typing import TypeGuard


def is_fresh(since_ms: int | None, now_ms: int, for_ms: int) -> TypeGuard[int]:
    """Whether `since_ms` is less than `for_ms` ago; None never is.

    Never by a clock that was put back: by it nothing would end in time.
    """
    return since_ms is not None and 0 <= now_ms - since_ms < for_ms


def is_valid(made_ms: int, now_ms: int, until_ms: int) -> bool:
    """Whether what was made at `made_ms` still counts at `now_ms`, its end being `until_ms`; the same of the clock."""
    return made_ms <= now_ms < until_ms
