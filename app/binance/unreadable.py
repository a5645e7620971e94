"""The exceptions that msgspec raises for bad JSON: syntax or types, UTF-8, and too deep nesting."""

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""Only the first is msgspec's own; the other two are raised as Python's exceptions."""
