"""The longest time a test waits for an event."""

from typing import Final

PATIENCE_S: Final = 1_200.0
"""Real seconds, long because a busy machine is no failure; a test that waits this long has failed."""
