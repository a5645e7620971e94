"""The stand-down that the processes of a database have noted in their shared file, read without a place in it."""

from pathlib import Path

from infra.local.rate_state import Damaged, decode


def noted_stand_down(path: Path) -> tuple[int, str] | None:
    """The noted stand-down as (until_ms, reason); None if there is none, or no file that can be read."""
    try:
        state = decode(path.read_bytes())
    except (OSError, Damaged):
        return None
    return (state.until_ms, state.reason) if state.until_ms else None
