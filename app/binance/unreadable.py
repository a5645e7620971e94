"""What decoding JSON from outside can raise: bad syntax or types, bad UTF-8, and nesting deeper than any answer has."""

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""msgspec reports only the first of these as its own error; the other two come through as Python's."""
