"""How long tests wait for what has to happen."""

from typing import Final

PATIENCE_S: Final = 1_200.0
"""Real seconds. A busy machine is no fault; a test that needs them has failed."""
